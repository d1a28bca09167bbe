// Types and documents of the operations in src/**/*.graphql, from the schemas that the server publishes in surface/.
import { readFileSync, writeFileSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { codegen } from "@graphql-codegen/core";
import * as operations from "@graphql-codegen/typescript-operations";
import * as documents from "@graphql-codegen/typed-document-node";
import { buildSchema, parse, printSchema, validate } from "graphql";

const root = new URL("..", import.meta.url).pathname;

async function generate(surface, mine, target) {
  const schema = buildSchema(readFileSync(join(root, "../surface", surface), "utf8"));
  const files = readdirSync(join(root, "src"), { recursive: true }).filter((name) => name.endsWith(".graphql") && mine(name)).sort();
  const parsed = files.map((name) => ({ location: name, document: parse(readFileSync(join(root, "src", name), "utf8")) }));

  const whole = { kind: "Document", definitions: parsed.flatMap((one) => one.document.definitions) };
  const faults = validate(schema, whole);
  if (faults.length > 0) {
    for (const fault of faults) console.error(fault.message);
    process.exit(1);
  }

  const config = {
    scalars: { DateTime: "string", JSON: "any", DeploymentMeta: "any", EnvironmentConfig: "any", NotificationChannelConfig: "any", EnvironmentVariables: "Record<string, string | null>" },
    enumsAsTypes: true,
    skipTypename: false,
    useTypeImports: true,
    documentMode: "documentNode",
  };
  const text = await codegen({
    schema: parse(printSchema(schema)),
    schemaAst: schema,
    documents: parsed,
    filename: target,
    config,
    plugins: [{ operations: {} }, { documents: {} }],
    pluginMap: { operations, documents },
  });
  writeFileSync(join(root, target), `// Written by scripts/generate.mjs.\n${text}`);
}

const ofGalaxy = (name) => name.startsWith("galaxy/");
await generate("railway.graphql", (name) => !ofGalaxy(name), "src/gql.ts");
await generate("galaxy.graphql", ofGalaxy, "src/galaxy-gql.ts");

// The shapes of the REST API, from the document that describes it.
const { schemas } = JSON.parse(readFileSync(join(root, "../surface/openapi.json"), "utf8")).components;
const quoted = (list) => list.map((one) => JSON.stringify(one)).join(" | ");

function typed(schema) {
  if (!schema || schema === true) return "unknown";
  if (schema.$ref) return schema.$ref.split("/").at(-1);
  if (schema.enum) return quoted(schema.enum);
  const several = schema.oneOf ?? schema.anyOf;
  if (several) return several.map(typed).join(" | ");
  if (schema.allOf) return schema.allOf.map(typed).join(" & ");
  if (Array.isArray(schema.type)) return schema.type.map((type) => typed({ ...schema, type })).join(" | ");
  switch (schema.type) {
    case "string":
      return "string";
    case "integer":
    case "number":
      return "number";
    case "boolean":
      return "boolean";
    case "null":
      return "null";
    case "array":
      return `(${typed(schema.items)})[]`;
    case "object":
      if (schema.properties) {
        const required = new Set(schema.required ?? []);
        return `{ ${Object.entries(schema.properties).map(([name, inner]) => `${JSON.stringify(name)}${required.has(name) ? "" : "?"}: ${typed(inner)}`).join("; ")} }`;
      }
      return `Record<string, ${typed(schema.additionalProperties)}>`;
    default:
      return "unknown";
  }
}

const shapes = Object.entries(schemas).map(([name, schema]) => `export type ${name} = ${typed(schema)};`);
writeFileSync(join(root, "src/rest.ts"), `// Written by scripts/generate.mjs.\n${shapes.join("\n")}\n`);
