/**
 * Which file may import which, checked by `npm run check`. The order of packages and folders is explained in
 * docs/architecture.md.
 */
import { readdirSync } from "node:fs"

/** The folders of `packages/actors/src` from below: each imports those before it and none after it. */
const actorFolders = [
  "runtime",
  "policy",
  "presence",
  "app-service",
  "room",
  "federation",
  "media",
  "user",
  "sync",
  "identity",
  "contacts",
  "account",
  "admin"
]

for (const entry of readdirSync(new URL("packages/actors/src/", import.meta.url), { withFileTypes: true })) {
  if (entry.isDirectory() && !actorFolders.includes(entry.name)) {
    throw new Error(`packages/actors/src/${entry.name} has no place in the order of folders`)
  }
}

/** The packages above each package. The client imports the protocol only. */
const packages = {
  protocol: ["room", "store", "actors", "gateway", "client"],
  room: ["store", "actors", "gateway", "client"],
  store: ["actors", "gateway", "client"],
  actors: ["gateway", "client"],
  gateway: ["client"],
  client: ["room", "store", "actors", "gateway"]
}

const oneOf = (names) => `(${names.join("|")})`

/** @type {import("dependency-cruiser").IConfiguration} */
export default {
  forbidden: [
    {
      name: "no-cycles",
      comment: "Files that import each other, types included, cannot be read, tested or replaced separately.",
      severity: "error",
      from: {},
      to: { circular: true }
    },
    {
      name: "resolvable",
      comment: "An import that cannot be resolved escapes the other rules.",
      severity: "error",
      from: {},
      to: { couldNotResolve: true }
    },
    ...Object.entries(packages).map(([name, above]) => ({
      name: `package-order-${name}`,
      comment: "protocol <- room <- store <- actors <- gateway <- apps; the client imports the protocol only.",
      severity: "error",
      from: { path: `^packages/${name}/src/` },
      to: { path: `^(packages/${oneOf(above)}|apps)/` }
    })),
    ...actorFolders.slice(0, -1).map((folder, index) => ({
      name: `folder-order-${folder}`,
      comment: "A folder imports those below it. It declares a service for what a folder above provides.",
      severity: "error",
      from: { path: `^packages/actors/src/${folder}/` },
      to: { path: `^packages/actors/src/${oneOf(actorFolders.slice(index + 1))}/` }
    })),
    {
      name: "internal-of-another-folder",
      comment:
        "A file of internal/ is imported only from the folder around it. A module that two folders share lies beside internal/.",
      severity: "error",
      from: { path: "^((packages|apps)/[^/]+/src/[^/]+)/" },
      to: { path: "/src/.*internal/", pathNot: ["^$1/", "^packages/[^/]+/src/internal/"] }
    },
    {
      name: "internal-of-a-folder",
      comment: "The same for the files of src itself.",
      severity: "error",
      from: { path: "^(packages|apps)/[^/]+/src/[^/]+$" },
      to: { path: "/src/[^/]+/.*internal/" }
    },
    {
      name: "internal-of-another-package",
      comment: "The same for packages.",
      severity: "error",
      from: { path: "^((packages|apps)/[^/]+)/" },
      to: { path: "^(packages|apps)/[^/]+/src/.*internal/", pathNot: "^$1/" }
    },
    {
      name: "home-server-is-last",
      comment: "HomeServer.ts provides all services; no file of the package imports it.",
      severity: "error",
      from: { path: "^packages/actors/src/[^/]+/" },
      to: { path: "^packages/actors/src/HomeServer\\.ts$" }
    },
    {
      name: "protocol-apart-from-behaviour",
      comment:
        "HomeServer.ts registers the behaviour of an actor with the runner; all other files import its messages.",
      severity: "error",
      from: { path: "^packages/", pathNot: "^packages/actors/(src/HomeServer\\.ts$|test/)" },
      to: {
        path: "^packages/actors/src/(room/Room|presence/Presence|user/User|federation/Peer|federation/RemoteDevices)\\.ts$"
      }
    },
    {
      name: "gateway-without-store",
      comment: "The gateway translates requests into calls of services, which own the tables and the SQL.",
      severity: "error",
      from: { path: "^packages/gateway/src/" },
      to: {
        path: "^packages/store/|node_modules/(effect/[^/]+/sql/|@effect/sql)",
        // No tables: time, making a directory, metrics, and background work.
        pathNot: "^packages/store/src/(MonotonicClock|MonotonicCache|DataDirectory|Measures|Supervision)\\.ts$"
      }
    }
  ],
  options: {
    doNotFollow: { path: "node_modules" },
    exclude: { path: "^(packages|apps)/.*/(test|examples|testing|dist)/" },
    parser: "swc",
    tsPreCompilationDeps: true,
    enhancedResolveOptions: { exportsFields: ["exports"], conditionNames: ["import", "node", "default", "types"] }
  }
}
