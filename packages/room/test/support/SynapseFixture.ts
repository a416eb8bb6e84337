/**
 * The rooms that Synapse made, as `test/fixtures/synapse/README.md` describes them.
 */
import * as fs from "node:fs"
import type { EventId, ServerName } from "@greenroom/protocol/Identifiers"
import type { JsonObject } from "@greenroom/protocol/Json"
import { type StateMap, stateKeyOf } from "@greenroom/room/RoomVersion"
import { decodeBase64, importVerifyKey, type VerifyKeys } from "@greenroom/room/Signing"
import { Result } from "effect"

/** The outcome of an event on a server. */
export interface Outcome {
  readonly order: number
  readonly rejected?: string
  readonly soft_failed?: boolean
  readonly outlier?: boolean
  readonly state_before?: ReadonlyArray<number>
}

export interface FixtureEvent {
  readonly event_id: EventId
  readonly pdu: JsonObject
  readonly redacted_by?: ReadonlyArray<EventId>
  readonly redacted?: JsonObject
  readonly a?: Outcome
  readonly b?: Outcome
}

export interface FixtureForgery {
  readonly name: string
  readonly event_id: EventId
  readonly error?: string
  readonly pdu?: JsonObject
}

export interface FixtureRoom {
  readonly scene: string
  readonly room_id: string
  readonly events: ReadonlyArray<FixtureEvent>
  readonly forgeries?: ReadonlyArray<FixtureForgery>
  readonly forward_extremities: Readonly<Record<"a" | "b", ReadonlyArray<EventId>>>
  readonly current_state: Readonly<Record<"a" | "b", ReadonlyArray<readonly [string, string, EventId]>>>
}

export interface Fixture {
  readonly room_version: string
  readonly servers: Readonly<
    Record<"a" | "b", { readonly server_name: ServerName; readonly verify_keys: Readonly<Record<string, string>> }>
  >
  readonly rooms: ReadonlyArray<FixtureRoom>
}

export const readFixture = (version: string): Fixture =>
  JSON.parse(fs.readFileSync(new URL(`../fixtures/synapse/v${version}.json`, import.meta.url), "utf8"))

/** The keys of both servers. */
export const keysOf = ({ servers }: Fixture): ((server: ServerName) => VerifyKeys) => {
  const keys = new Map(
    Object.values(servers).map(({ server_name, verify_keys }) => [
      server_name,
      new Map(
        Object.entries(verify_keys).map(([id, key]) => [id, Result.getOrThrow(importVerifyKey(decodeBase64(key)!))])
      )
    ])
  )
  return (server) => keys.get(server) ?? new Map()
}

/** A state as the fixture has it. */
export const currentState = (room: FixtureRoom, server: "a" | "b"): StateMap =>
  new Map(room.current_state[server].map(([type, stateKey, id]) => [stateKeyOf(type, stateKey), id]))

/** A state before an event as the fixture has it. */
export const stateBefore = (room: FixtureRoom, indices: ReadonlyArray<number>): StateMap =>
  new Map(
    indices.map((index) => {
      const { event_id, pdu } = room.events[index]!
      return [stateKeyOf(pdu.type as string, pdu.state_key as string), event_id]
    })
  )
