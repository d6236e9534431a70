// Calls the tools that it reads from standard input, one JSON array [name, arguments] a line, by the TypeScript SDK,
// and prints what a host sees: results, progress and the resources that results link to. Started with the server's
// command line as its arguments.
import { createInterface } from "node:readline";
import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { StdioClientTransport } from "@modelcontextprotocol/sdk/client/stdio.js";

const [command, ...args] = process.argv.slice(2);
const client = new Client({ name: "typescript", version: "1" });
await client.connect(new StdioClientTransport({ command, args, env: process.env, stderr: "inherit" }));
await client.listTools(); // with their schemas, by which the client then checks structured content

for await (const line of createInterface({ input: process.stdin })) {
  const [name, given] = JSON.parse(line);
  const progress = [];
  const onprogress = ({ message }) => progress.push(message ?? "");
  const result = await client.callTool({ name, arguments: given }, undefined, { onprogress, timeout: 120_000 });
  const resources = [];
  for (const block of result.content.filter((block) => block.type === "resource_link")) {
    const { contents } = await client.readResource({ uri: block.uri });
    resources.push(...contents);
  }
  console.log(JSON.stringify({ result, progress, resources }));
}
await client.close();
