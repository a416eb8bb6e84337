/**
 * Which invitations users want. Blocked ones are refused; ignored ones are accepted, but neither shown nor notified. Of both kinds,
 * those that wait for an answer from before are left out of what clients receive.
 *
 * Source: "Invite permission" of the client-server specification; MSC4155 for rules by user and server.
 */
import { matchesGlob, parseGlob } from "@greenroom/protocol/Glob"
import { serverNameOf, type UserId } from "@greenroom/protocol/Identifiers"
import type { Json, JsonObject } from "@greenroom/protocol/Json"
import { AccountDataStore } from "@greenroom/store/AccountDataStore"
import { Effect } from "effect"

/** What happens to an invitation. */
export type InviteVerdict = "allow" | "ignore" | "block"

/** The verdict on an invitation, by who sends it. */
export type InviteRules = (inviter: UserId) => InviteVerdict

/** Account data by which users decide on invitations. */
const permissionType = "m.invite_permission_config"
const filterType = "org.matrix.msc4155.invite_permission_config"
/** The types of account data with rules for invitations. */
export const inviteRuleTypes: ReadonlyArray<string> = [permissionType, filterType]

/** The most patterns of one list. */
const maxPatterns = 1_000

/** The rules of a user without rules. */
export const allowAll: InviteRules = () => "allow"
const blockAll: InviteRules = () => "block"

const matcherOf = (patterns: Json | undefined): ((name: string) => boolean) => {
  if (!Array.isArray(patterns)) return () => false
  const globs = patterns
    .slice(0, maxPatterns)
    .filter((pattern) => typeof pattern === "string")
    .map((pattern) => parseGlob(pattern))
  return (name) => globs.some((glob) => matchesGlob(name, glob))
}

/** The lists in their order, with the verdict on inviters that one names. */
const listKeys: ReadonlyArray<readonly [key: string, verdict: InviteVerdict]> = [
  ["allowed", "allow"],
  ["ignored", "ignore"],
  ["blocked", "block"]
]

/** Rules by user come before rules by server. */
const filterOf = (content: JsonObject): InviteRules => {
  const listsOf = (kind: string) =>
    listKeys.map(([key, verdict]) => ({ matches: matcherOf(content[`${key}_${kind}`]), verdict }))
  const [users, servers] = [listsOf("users"), listsOf("servers")]
  return (inviter) =>
    users.find(({ matches }) => matches(inviter))?.verdict ??
    servers.find(({ matches }) => matches(serverNameOf(inviter)))?.verdict ??
    "allow"
}

export const makeInvitePermission = Effect.gen(function* () {
  const store = yield* AccountDataStore

  /** The rules of a user of this server. `allowAll` itself if there are none. */
  const of = (userId: UserId): Effect.Effect<InviteRules> =>
    Effect.map(store.several(userId, inviteRuleTypes), (found) => {
      if (found.get(permissionType)?.default_action === "block") return blockAll
      const filter = found.get(filterType)
      return filter === undefined ? allowAll : filterOf(filter)
    })

  return { of }
})
