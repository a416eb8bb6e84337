/**
 * Users of one home server, and their most frequent requests.
 */
import { assert } from "@effect/vitest"
import { Effect } from "effect"
import type { Answer, Body } from "./Curl.ts"
import { waitFor } from "./Polling.ts"
import { type Person, Stage } from "./Scene.ts"

export const text = (body: string) => ({ msgtype: "m.text", body })

export const inPath = encodeURIComponent

let users = 0

/** Registers new users with these names. */
export const people = (...names: ReadonlyArray<string>) =>
  Effect.flatMap(Stage, ({ register }) => Effect.forEach(names, (name) => register(`${name}${++users}`)))

/** Asserts that an answer is an error with this status and code. */
export const refused = ({ body, status }: Answer, expectedStatus: number, errcode: string) => {
  assert.deepStrictEqual([status, body?.errcode], [expectedStatus, errcode])
  assert.isString(body.error)
  assert.notStrictEqual(body.error, "")
}

export const done = ({ body, status }: Answer) => assert.deepStrictEqual([status, body], [200, {}])

export const pollOf = (person: Person) => (path: string) => person.ask("GET", path)

export const now = (person: Person) =>
  Effect.map(person.ask("GET", "/events?timeout=0"), ({ body }): string => body.end)

/** The first event that reaches a person after `from` for which this holds. */
export const next = (person: Person, from: string, isMeant: (event: Body) => boolean) =>
  Effect.map(waitFor(pollOf(person), from, isMeant), ({ event }) => event)

export const say = (person: Person, room: string, body: string) =>
  Effect.map(person.ask("POST", `/rooms/${inPath(room)}/send/m.room.message`, text(body)), ({ body }) => body.event_id)
