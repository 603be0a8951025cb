// mongodb-atlas-api-client (npm) through the proxy: it does HTTP Digest itself, and speaks version 1.0 of the API.
const getClient = require("mongodb-atlas-api-client");

const { user, cluster, project, projectAccesslist } = getClient({
  publicKey: "placeholder",
  privateKey: "placeholder",
  baseUrl: process.env.BASE_URL + "/api/atlas/v1.0",
  projectId: process.env.PROJECT,
});
const names = (page) => page.results.map((one) => one.username ?? one.name ?? one.cidrBlock);

(async () => {
  console.log("projects:", names(await project.getAll()).length > 0);
  console.log("clusters:", names(await cluster.getAll()));
  const made = await user.create({
    username: "node user", password: "placeholder-1", databaseName: "admin",
    roles: [{ roleName: "read", databaseName: "app" }],
  });
  console.log("made:", made.username);
  console.log("one:", (await user.get("node%20user")).username);
  await user.delete("node%20user");
  console.log("left:", names(await user.getAll()));
  console.log("entries:", names(await projectAccesslist.create([{ cidrBlock: "203.0.113.0/24" }])));
  await projectAccesslist.delete(encodeURIComponent("203.0.113.0/24"));
  console.log("entries left:", names(await projectAccesslist.getAll()));
})().catch((error) => {
  console.error(error);
  process.exit(1);
});
