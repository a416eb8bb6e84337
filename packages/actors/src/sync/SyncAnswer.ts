/**
 * The answer to `/sync`.
 *
 * Source: "Syncing" of the client-server specification.
 */
import type { ClientServerEvent } from "@greenroom/protocol/client-server/ClientEvent"
import type { UserId } from "@greenroom/protocol/Identifiers"
import { Struct } from "effect"
import type { UnreadOfRoom } from "../user/push/UnreadCounts.ts"
import type { SyncedPresence } from "./internal/SyncPresence.ts"

/** An event without sender or ID, such as account data. */
export interface SimpleEvent {
  readonly type: string
  readonly content: object
}

/** A list of events, as a part of the answer. */
export interface Events<E = SimpleEvent> {
  readonly events: ReadonlyArray<E>
}

/** A room that the user is in, or has left. */
export interface SyncedRoom extends Partial<UnreadOfRoom> {
  readonly timeline: Events<ClientServerEvent> & { readonly limited: boolean; readonly prev_batch: string }
  readonly state?: Events<ClientServerEvent>
  readonly state_after?: Events<ClientServerEvent>
  readonly summary?: {
    /** User IDs for the name of a room that has none. */
    readonly "m.heroes"?: ReadonlyArray<UserId>
    readonly "m.joined_member_count": number
    readonly "m.invited_member_count": number
  }
  readonly ephemeral?: Events
  readonly account_data?: Events
}

/** How many keys of the device can be claimed. */
export interface SyncedKeyCounts {
  readonly device_one_time_keys_count: { readonly [algorithm: string]: number }
  readonly device_unused_fallback_key_types: ReadonlyArray<string>
}

/** The encryption part of an answer. */
export interface SyncedDevices extends SyncedKeyCounts {
  readonly to_device: Events<SimpleEvent & { readonly sender: UserId }>
  /** Absent in a first answer. */
  readonly device_lists?: { readonly changed: ReadonlyArray<UserId>; readonly left: ReadonlyArray<UserId> }
}

/** What is new, without the counts of keys. Messages to the device and device lists are absent if there are none. */
export interface SyncedNews extends Partial<Omit<SyncedDevices, keyof SyncedKeyCounts>> {
  readonly next_batch: string
  readonly rooms: {
    readonly join: { readonly [roomId: string]: SyncedRoom }
    readonly invite: { readonly [roomId: string]: { readonly invite_state: Events<unknown> } }
    readonly knock: { readonly [roomId: string]: { readonly knock_state: Events<unknown> } }
    readonly leave: { readonly [roomId: string]: SyncedRoom }
  }
  readonly account_data: Events
  readonly presence: Events<SyncedPresence>
}

/** Every answer has the counts of keys: where they are absent, clients upload new ones. */
export interface SyncAnswer extends SyncedNews, SyncedKeyCounts {}

/** The JSON of parts of answers that are encoded before the answer. */
const encodedTexts = new WeakMap<object, string>()

/** Marks a part of answers as one that many users get alike: it is encoded once. */
export const shared = <A extends object>(part: A): A => {
  encodedTexts.set(part, JSON.stringify(part))
  return part
}

/** Events as JSON, which are parsed where they are read. */
class CompactEvents<E> implements Events<E> {
  constructor(part: object, text: string) {
    Object.assign(this, part)
    encodedTexts.set(this, text)
  }

  get events(): ReadonlyArray<E> {
    return (JSON.parse(encodedTexts.get(this)!) as Events<E>).events
  }
}

/** How many events are encoded in one step. */
const encodedAtOnce = 100

/** Encodes a part of an answer before the others are read, in steps: as text it takes less memory than its events. */
export function* compact<A extends Events<unknown>>(part: A): Generator<void, A> {
  const { events } = part
  if (events.length === 0) return part
  const rest = Struct.omit(part, ["events"])
  if (events.length <= encodedAtOnce) return new CompactEvents(rest, JSON.stringify(part)) as unknown as A
  let list = ""
  for (let index = 0; index < events.length; index += encodedAtOnce) {
    const text = JSON.stringify(events.slice(index, index + encodedAtOnce))
    list += `${index === 0 ? "" : ","}${text.slice(1, -1)}`
    yield
  }
  const members = JSON.stringify(rest).slice(1)
  const text = `{"events":[${list}]${members === "}" ? "" : ","}${members}`
  return new CompactEvents(rest, text) as unknown as A
}

/** Whether a part of an answer has events. */
export const hasEvents = (part: Events<unknown> | undefined): boolean =>
  part instanceof CompactEvents || (part !== undefined && part.events.length > 0)

const textOf = (value: object): string => encodedTexts.get(value) ?? JSON.stringify(value)

const objectOf = (members: ReadonlyArray<string>): string => `{${members.join(",")}}`

type Section = "account_data" | "ephemeral"

/** Sections that a room has even if they are empty: clients read them without asking whether they are there. */
const ofJoined: ReadonlyArray<Section> = ["account_data", "ephemeral"]
const ofLeft: ReadonlyArray<Section> = ["account_data"]

/** The JSON of rooms, with the name under which the client reads the state at the end of the timeline. */
const roomsText = (
  rooms: SyncAnswer["rooms"]["join"],
  sections: ReadonlyArray<Section>,
  stateAfterName: string
): string => {
  const roomText = (room: SyncedRoom): string => {
    let members = ""
    for (const [key, value] of Object.entries(room)) {
      members += `${members === "" ? "" : ","}"${key === "state_after" ? stateAfterName : key}":${textOf(value)}`
    }
    for (const section of sections) if (room[section] === undefined) members += `,"${section}":{"events":[]}`
    return `{${members}}`
  }
  return objectOf(Object.entries(rooms).map(([roomId, room]) => `${JSON.stringify(roomId)}:${roomText(room)}`))
}

const isEmpty = (rooms: object): boolean => Object.keys(rooms).length === 0

/** The JSON of an answer. Kinds of rooms of which nothing is new are left out, except for joined ones. */
export const encodeSyncAnswer = ({ rooms, ...answer }: SyncAnswer, stateAfterName = "state_after"): string => {
  const { invite, join, knock, leave } = rooms
  const sections = [
    `"join":${roomsText(join, ofJoined, stateAfterName)}`,
    ...(isEmpty(invite) ? [] : [`"invite":${JSON.stringify(invite)}`]),
    ...(isEmpty(knock) ? [] : [`"knock":${JSON.stringify(knock)}`]),
    ...(isEmpty(leave) ? [] : [`"leave":${roomsText(leave, ofLeft, stateAfterName)}`])
  ]
  return `${JSON.stringify(answer).slice(0, -1)},"rooms":${objectOf(sections)}}`
}
