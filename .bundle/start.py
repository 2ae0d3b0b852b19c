"""The bundle's entry point: find certificates, then run the plugin."""

import os

import certifi

from nwc import bootstrap

# The files where distributions keep public certificate authorities, and those that the owner has added.
_CERTIFICATES = (
    "/etc/ssl/certs/ca-certificates.crt",  # Debian, Ubuntu, Arch
    "/etc/pki/tls/certs/ca-bundle.crt",  # Fedora
    "/etc/ssl/ca-bundle.pem",  # openSUSE
)

# OpenSSL would only look where Debian keeps them. lightningd's container image has none.
if not {"SSL_CERT_FILE", "SSL_CERT_DIR"} & os.environ.keys():
    os.environ["SSL_CERT_FILE"] = next(filter(os.path.exists, _CERTIFICATES), certifi.where())

with bootstrap.import_errors_disable():
    from nwc.main import main
main()
