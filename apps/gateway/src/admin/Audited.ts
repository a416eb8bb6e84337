/**
 * Changes by the command line, which are in the audit log before they are made, and again if they fail.
 */
import { AuditStore, type NewAuditEntry } from "@greenroom/store/AuditStore"
import type * as Effect from "effect/Effect"

/** The actor of the command line's actions in the audit log. */
export const commandLine = "command line"

/** Makes a change. `entry` is its row in the audit log; the actor is the command line unless it names an administrator. */
export const audited =
  (entry: Omit<NewAuditEntry, "actor"> & { readonly actor?: string }) =>
  <A, E, R>(change: Effect.Effect<A, E, R>): Effect.Effect<A, E, R | AuditStore> =>
    AuditStore.use((audit) => audit.run({ actor: commandLine, ...entry }, change))
