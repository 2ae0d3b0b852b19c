// An app built on Alby's SDK, driven over standard input: one JSON object a line in, one a line out.
// node alby.mjs URI [ENCRYPTION]
// node alby.mjs '{"relayUrls": …}'     makes its own key: writes {"result": URI OF THE APP}, and waits for the wallet
//
// {"call": METHOD, "params": …} is answered by {"result": …} or {"error": {"name", "code", "message"}},
// {"get": PROPERTY} by {"result": …}. Notifications come in between, as {"notification": …}.
import { createInterface } from "node:readline";
import WebSocket from "ws";

globalThis.WebSocket ??= WebSocket; // Node.js before 22 has none
const { NWAClient, NWCClient } = await import("@getalby/sdk");

const [uri, encryption] = process.argv.slice(2);
const write = (message) => process.stdout.write(`${JSON.stringify(message)}\n`);

const paired = async (options) => {
  const app = new NWAClient(options);
  const found = new Promise((resolve) => app.subscribe({ onSuccess: resolve }));
  write({ result: app.connectionUri });
  return await found;
};

const client = uri.startsWith("{")
  ? await paired(JSON.parse(uri))
  : new NWCClient({ nostrWalletConnectUrl: uri });
if (encryption) client._encryptionType = encryption; // as an app of before NIP-44

const call = async (method, params) => {
  if (method !== "subscribeNotifications") return await client[method](params);
  await client.subscribeNotifications((notification) => write({ notification }), params);
  return null;
};

const answer = async (asked) => {
  if (asked.get) return { result: client[asked.get] };
  try {
    return { result: await call(asked.call, asked.params) };
  } catch (error) {
    return { error: { name: error.constructor.name, code: error.code, message: error.message } };
  }
};

for await (const line of createInterface({ input: process.stdin })) write(await answer(JSON.parse(line)));
client.close();
process.exit(0);
