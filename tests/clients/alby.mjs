// What an app built on Alby's SDK sees of a connection, as one JSON object on standard output.
// node alby.mjs URI DESCRIPTION_HASH
import WebSocket from "ws";

globalThis.WebSocket ??= WebSocket; // Node.js before 22 has none
const { NWCClient } = await import("@getalby/sdk");

const [uri, descriptionHash] = process.argv.slice(2);
const client = new NWCClient({ nostrWalletConnectUrl: uri });
const old = new NWCClient({ nostrWalletConnectUrl: uri });
const seen = {};

const failure = async (promise) => {
  try {
    return { unexpected: await promise };
  } catch (error) {
    return { name: error.constructor.name, code: error.code };
  }
};

seen.service = await client.getWalletServiceInfo();
seen.info = await client.getInfo();
seen.encryption = client.encryptionType;
seen.lud16 = client.lud16;
seen.invoices = [
  await client.makeInvoice({ amount: 21_000, description: "from JavaScript", metadata: { order: 7 } }),
  await client.makeInvoice({ amount: 1_000, description_hash: descriptionHash }),
];
old._encryptionType = "nip04"; // as an app of before NIP-44
seen.invoices.push(await old.makeInvoice({ amount: 1_000, description: "in NIP-04" }));
seen.refused = await failure(client.makeInvoice({ amount: -1 }));
seen.no_payments = await failure(client.payInvoice({ invoice: "lnbc1" }));

client.close();
old.close();
process.stdout.write(JSON.stringify(seen), () => process.exit(0));
