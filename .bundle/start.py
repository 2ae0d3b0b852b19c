"""Where the bundle starts: finds certificates, then runs the plugin."""

import os

import certifi

from nwc import bootstrap

# Where distributions keep the certificates of the public authorities, and those the owner has added.
_CERTIFICATES = (
    "/etc/ssl/certs/ca-certificates.crt",  # Debian, Ubuntu, Arch
    "/etc/pki/tls/certs/ca-bundle.crt",  # Fedora
    "/etc/ssl/ca-bundle.pem",  # openSUSE
)

# OpenSSL would look where Debian has them. The container image of lightningd has none at all.
if not {"SSL_CERT_FILE", "SSL_CERT_DIR"} & os.environ.keys():
    os.environ["SSL_CERT_FILE"] = next(filter(os.path.exists, _CERTIFICATES), certifi.where())

with bootstrap.import_errors_disable():
    from nwc.main import main
main()
