// Answers as Ajv does. Each line on standard input is {"schema", "instance"}, the instance as
// text; each line of the answer is the array of errors, or {"refused"} when Ajv does not take the
// schema, or {"thrown"} when it fails on the instance.
//
// Keys of an error come in alphabetical order, and so do those of its params.

import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { createInterface } from "node:readline";

const require = createRequire(import.meta.url);
const Ajv7 = require("ajv").default;
const Ajv2020 = require("ajv/dist/2020").default;
const addFormats = require("ajv-formats").default;

const options = { allErrors: true, strict: false, strictNumbers: true, logger: false };
const make = (Ajv) => addFormats(new Ajv(options));
const isSeven = (schema) => /draft-07/.test(schema?.$schema ?? "");
const shared = { seven: make(Ajv7), twenty: make(Ajv2020) };

function compile(schema) {
  if (schema?.$id !== undefined) return make(isSeven(schema) ? Ajv7 : Ajv2020).compile(schema);
  const ajv = isSeven(schema) ? shared.seven : shared.twenty;
  try {
    return ajv.compile(schema);
  } finally {
    if (typeof schema === "object") ajv.removeSchema(schema);
  }
}

const sorted = (object) =>
  Object.fromEntries(Object.entries(object).sort(([a], [b]) => (a < b ? -1 : 1)));

function answer({ schema, instance }, validators) {
  const key = JSON.stringify(schema);
  if (!validators.has(key)) {
    if (validators.size > 64) validators.clear();
    try {
      validators.set(key, compile(schema));
    } catch (error) {
      validators.set(key, String(error.message));
    }
  }
  const validate = validators.get(key);
  if (typeof validate === "string") return { refused: validate };
  try {
    validate(JSON.parse(instance));
  } catch (error) {
    return { thrown: String(error.message) };
  }
  return (validate.errors ?? []).map((error) => sorted({ ...error, params: sorted(error.params) }));
}

const version = (name) =>
  JSON.parse(readFileSync(new URL(`node_modules/${name}/package.json`, import.meta.url))).version;
const versions = { ajv: version("ajv"), "ajv-formats": version("ajv-formats") };
process.stdout.write(`${JSON.stringify(versions)}\n`);

const validators = new Map();
for await (const line of createInterface({ input: process.stdin, crlfDelay: Infinity })) {
  process.stdout.write(`${JSON.stringify(answer(JSON.parse(line), validators))}\n`);
}
