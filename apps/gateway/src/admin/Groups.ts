/**
 * The commands of `greenroom`: a group each, in a file of its own that is loaded on use. To add one, write a file that
 * exports `command`, and an entry here.
 */
import { setPriority } from "node:os"
import { useV8Options } from "../NodeOptions.ts"
import type { AnyCommand } from "./RunCommand.ts"

/** A group of commands. */
export interface Group {
  readonly description: string
  /** Runs it with the words after its name. */
  readonly run: (words: ReadonlyArray<string>) => Promise<void>
  /** Its commands; absent for the server itself. */
  readonly load?: () => Promise<AnyCommand>
}

const commands = (description: string, load: () => Promise<{ readonly command: AnyCommand }>): Group => ({
  description,
  run: async (words) => {
    const [{ runCommand }, { command }] = await Promise.all([import("./RunCommand.ts"), load()])
    runCommand(command, words)
  },
  load: async () => (await load()).command
})

/** The niceness of a backup with a rate: other processes, such as the server, get three times its share of a processor. */
const gentleNiceness = 5

/** Lowers the priority of a backup with a rate. */
const gently = (group: Group): Group => ({
  ...group,
  run: (words) => {
    if (words.some((word) => word.startsWith("--rate"))) setPriority(gentleNiceness)
    return group.run(words)
  }
})

/** All groups, in the order in which `greenroom --help` names them. */
export const groups: Readonly<Record<string, Group>> = {
  serve: {
    description: "Run the home server",
    run: async (words) => {
      useV8Options()
      const { serve } = await import("../Serve.ts")
      serve(words)
    }
  },
  doctor: commands("Diagnose faults, and name their remedies", () => import("./DoctorCommand.ts")),
  migrate: commands("Migrate the database to the version of this program", () => import("./MigrateCommand.ts")),
  backup: gently(
    commands("Back up the database and the uploaded files while the server runs", () => import("./BackupCommand.ts"))
  ),
  restore: commands(
    "Restore a backup into an empty database or a new data directory",
    () => import("./RestoreCommand.ts")
  ),
  export: commands("Export the data of one user, under dual control", () => import("./ExportCommands.ts")),
  import: commands("Import data into an account", () => import("./ImportCommands.ts")),
  user: commands("Manage accounts", () => import("./UserCommands.ts")),
  token: commands("Manage registration tokens", () => import("./TokenCommands.ts")),
  media: commands("Manage uploaded files, and those of other servers", () => import("./MediaCommands.ts")),
  room: commands("Manage rooms", () => import("./RoomCommands.ts")),
  ban: commands("Ban users, servers and content", () => import("./BanCommands.ts")),
  report: commands("List and resolve the reports of users", () => import("./ReportCommands.ts")),
  audit: commands("List and verify the audit log", () => import("./AuditCommands.ts")),
  federation: commands("List and retry other home servers", () => import("./FederationCommands.ts")),
  "signing-key": commands("List and rotate the signing keys", () => import("./SigningKeyCommands.ts"))
}
