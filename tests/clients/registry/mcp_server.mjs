// mongodb-mcp-server (npm) through the proxy, as a client of the Model Context Protocol starts it: with a service account that
// means nothing, for which the proxy gives a token that means nothing.
import { spawn } from "node:child_process";
import { createInterface } from "node:readline";

const { BASE_URL, NODE_PATH, PROJECT } = process.env;
const child = spawn(`${NODE_PATH}/.bin/mongodb-mcp-server`, [], {
  env: {
    ...process.env,
    MDB_MCP_API_BASE_URL: BASE_URL + "/",
    MDB_MCP_API_CLIENT_ID: "mdb_sa_id_placeholder",
    MDB_MCP_API_CLIENT_SECRET: "mdb_sa_sk_placeholder",
    MDB_MCP_TELEMETRY: "disabled",
    MDB_MCP_LOGGERS: "stderr",
  },
  stdio: ["pipe", "pipe", process.env.VERBOSE ? "inherit" : "ignore"],
});
const answers = new Map();
createInterface({ input: child.stdout }).on("line", (line) => {
  const message = JSON.parse(line);
  answers.get(message.id)?.(message);
});
let last = 0;
const send = (message) => child.stdin.write(JSON.stringify({ jsonrpc: "2.0", ...message }) + "\n");
const call = (method, params) =>
  new Promise((resolve) => {
    answers.set(++last, resolve);
    send({ id: last, method, params });
  });
const tool = async (name, args) => {
  const { result, error } = await call("tools/call", { name, arguments: args });
  return { failed: Boolean(error ?? result.isError), text: error ? error.message : result.content.map((part) => part.text).join("\n") };
};

await call("initialize", {
  protocolVersion: "2025-03-26",
  capabilities: {},
  clientInfo: { name: "test", version: "1" },
});
send({ method: "notifications/initialized" });
const tools = [
  ["atlas-list-orgs", {}],
  ["atlas-list-projects", {}],
  ["atlas-list-clusters", { projectId: PROJECT }],
  ["atlas-list-db-users", { projectId: PROJECT }],
  ["atlas-create-db-user", { projectId: PROJECT, username: "mcp-user", password: "placeholder-1", roles: [{ roleName: "read", databaseName: "app" }] }],
  ["atlas-create-access-list", { projectId: PROJECT, ipAddresses: ["203.0.113.9"] }],
  ["atlas-inspect-access-list", { projectId: PROJECT }],
];
let failed = false;
for (const [name, args] of tools) {
  const answer = await tool(name, args);
  failed ||= answer.failed;
  console.log(`${name}:`, answer.failed ? "FAILED" : "ok", answer.text.replace(/\s+/g, " ").slice(0, 400));
}
child.stdin.end();
child.kill();
process.exit(failed ? 1 : 0);
