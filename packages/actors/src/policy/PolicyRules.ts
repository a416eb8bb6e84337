/**
 * The rules of a policy server: the events that a room's community refuses. A rule checks one event and returns the reason
 * of a refusal, as text for the sender, or undefined. The first refusal decides. `PolicyServer` applies them.
 *
 * @example
 * import { defineRule, flood, links } from "@greenroom/actors/policy/PolicyRules"
 *
 * const noShouting = defineRule(({ text }) =>
 *   text.length > 20 && text === text.toUpperCase() ? "Please do not shout" : undefined
 * )
 *
 * export default [flood({ events: 10, seconds: 30 }), links({ allowed: ["matrix.org"] }), noShouting]
 *
 * Source: "Policy servers" of the server-server specification; "Moderation policy lists" of the client-server one.
 */
import { createHash } from "node:crypto"
import type { Event } from "@greenroom/protocol/Event"
import { matchesGlob, parseGlob } from "@greenroom/protocol/Glob"
import { serverNameOf } from "@greenroom/protocol/Identifiers"
import { isJsonObject } from "@greenroom/protocol/Json"

/** The input of a rule. */
export interface PolicyQuestion {
  readonly event: Event
  /** The texts of a message as its readers see them: `body` and `formatted_body`; empty for other events. */
  readonly text: string
  /** Milliseconds since 1970. */
  readonly now: number
  /** The time of the sender's membership in the room, from their server; undefined for users who are not in the room. */
  readonly joinedAt: number | undefined
  /** The number of events of this sender in this room in the last `ms` milliseconds, this one included. */
  readonly recentEvents: (ms: number) => number
  /** The rules of the moderation policy lists that the operator has named. */
  readonly lists: ReadonlyArray<ListedRule>
}

/** An m.policy.rule.* of a moderation policy list that recommends a ban or a takedown. */
export interface ListedRule {
  readonly kind: "user" | "server" | "room"
  /** A glob; empty if the list gives a hash. */
  readonly entity: string
  /** The SHA-256 of the user ID, server name or room ID, in base64. */
  readonly sha256?: string
  /** Empty if the list gives none. */
  readonly reason: string
}

/** The reason why the event is refused, or undefined. */
export type PolicyRule = (question: PolicyQuestion) => string | undefined

/** Gives a function the type of a rule. */
export const defineRule = (rule: PolicyRule): PolicyRule => rule

const isMessage = ({ event }: PolicyQuestion): boolean =>
  event.type === "m.room.message" || event.type === "m.room.encrypted" || event.type === "m.sticker"

/** The hosts of the links in a text. */
const hostsIn = (text: string): ReadonlyArray<string> =>
  [...text.matchAll(/\bhttps?:\/\/([^\s/?#"'<>)]+)/gi)].map((match) =>
    match[1]!.toLowerCase().replace(/^.*@|:[0-9]+$/g, "")
  )

const isBelow = (host: string, domain: string): boolean => host === domain || host.endsWith(`.${domain}`)

/** Refuses messages that match one of the patterns. */
export const spam =
  (...patterns: ReadonlyArray<RegExp>): PolicyRule =>
  ({ text }) =>
    // Unlike `test`, `search` keeps no position in patterns with the flag `g`.
    patterns.some((pattern) => text.search(pattern) >= 0) ? "The message looks like spam" : undefined

/** Refuses messages of a sender who has sent more than `events` in the last `seconds`. */
export const flood =
  ({ events, seconds }: { readonly events: number; readonly seconds: number }): PolicyRule =>
  (question) =>
    isMessage(question) && question.recentEvents(seconds * 1_000) > events
      ? "You are sending messages too fast"
      : undefined

/** Refuses messages with links to hosts other than these and their subdomains. */
export const links =
  ({ allowed = [] }: { readonly allowed?: ReadonlyArray<string> } = {}): PolicyRule =>
  ({ text }) =>
    hostsIn(text).some((host) => !allowed.some((domain) => isBelow(host, domain)))
      ? "Links are not allowed here"
      : undefined

/** Refuses stickers and files: all files, or those of these `msgtype`s. */
export const media =
  (types: ReadonlyArray<string> = ["m.image", "m.video", "m.audio", "m.file"]): PolicyRule =>
  ({ event }) =>
    event.type === "m.sticker" || (event.type === "m.room.message" && types.includes(String(event.content.msgtype)))
      ? "Files are not allowed here"
      : undefined

/** Applies rules only to users that have joined the room within the last `minutes`, or are not in it. */
export const newAccounts =
  ({ minutes }: { readonly minutes: number }, ...rules: ReadonlyArray<PolicyRule>): PolicyRule =>
  (question) => {
    const { joinedAt, now } = question
    if (joinedAt !== undefined && now - joinedAt > minutes * 60_000) return undefined
    return firstRefusal(rules, question)
  }

const hashOf = (name: string): string => createHash("sha256").update(name).digest("base64")

/** Refuses events of users, servers and rooms that a moderation policy list bans or takes down. */
export const policyLists: PolicyRule = ({ event, lists }) => {
  if (lists.length === 0) return undefined
  const subjects = { user: event.sender, server: serverNameOf(event.sender), room: event.room_id }
  const hashes = { user: hashOf(subjects.user), server: hashOf(subjects.server), room: hashOf(subjects.room) }
  const found = lists.find(({ entity, kind, sha256 }) =>
    sha256 === undefined ? matchesGlob(subjects[kind], parseGlob(entity)) : sha256 === hashes[kind]
  )
  if (found === undefined) return undefined
  return found.reason === "" ? "Banned by a policy list" : `Banned by a policy list: ${found.reason}`
}

/** The refusal of the first rule that refuses. */
export const firstRefusal = (rules: ReadonlyArray<PolicyRule>, question: PolicyQuestion): string | undefined => {
  for (const rule of rules) {
    const refusal = rule(question)
    if (refusal !== undefined) return refusal
  }
  return undefined
}

const texts = (value: unknown): ReadonlyArray<string> => (typeof value === "string" ? [value] : [])

/** The content that readers of an event see: also the new content of an edit. */
export const textOf = ({ content, type }: Event): string => {
  if (type !== "m.room.message") return ""
  const edited = content["m.new_content"]
  const parts = [content, ...(isJsonObject(edited) ? [edited] : [])]
  return parts.flatMap(({ body, formatted_body }) => [...texts(body), ...texts(formatted_body)]).join("\n")
}
