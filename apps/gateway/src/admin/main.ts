#!/usr/bin/env node
/**
 * The program with which an operator runs and administers a home server: `greenroom --help`.
 */
import "@greenroom/gateway/NodeVersion"
import { useCompileCache } from "@greenroom/gateway/CompileCache"
import { name, version } from "../GreenroomProgram.ts"
import { groups } from "./Groups.ts"

useCompileCache()

const help = (): string => {
  const width = Math.max(...Object.keys(groups).map((group) => group.length))
  const lines = Object.entries(groups).map(([group, { description }]) => `  ${group.padEnd(width)}  ${description}`)
  return [
    "A Greenroom home server: runs it and administers it.",
    "",
    `Usage: ${name} <command> [options]`,
    "",
    "Commands:",
    ...lines,
    "",
    `${name} <command> --help describes a command. All take --config, --data-dir, --database-url and --server-name,`,
    "as the server does, and print JSON with --json."
  ].join("\n")
}

const [word, ...rest] = process.argv.slice(2)
const group = word !== undefined && Object.hasOwn(groups, word) ? groups[word] : undefined
if (group !== undefined) {
  await group.run(rest)
} else if (word === undefined || word === "--help" || word === "-h" || word === "help") {
  console.log(help())
} else if (word === "--version" || word === "-v") {
  console.log(`${name} v${version}`)
} else {
  console.error(`${name}: there is no command ${JSON.stringify(word)} (see --help)`)
  process.exitCode = 1
}
