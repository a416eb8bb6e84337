/** Users of one home server, and their most frequent requests. */
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

/** The body of a login of a user that {@link people} registered. */
export const loginOf = ({ userId }: Person) => {
  const user = userId.slice(1, userId.indexOf(":"))
  return { type: "m.login.password", user, password: `secret of ${user}` }
}

/** Asserts that an answer is an error with this status and code. */
export const refused = ({ body, status }: Answer, expectedStatus: number, errcode: string) => {
  assert.deepStrictEqual([status, body?.errcode], [expectedStatus, errcode])
  assert.isString(body.error)
  assert.notStrictEqual(body.error, "")
}

/** Asserts that an answer is `{}` with status 200. */
export const done = ({ body, status }: Answer) => assert.deepStrictEqual([status, body], [200, {}])

export const pollOf = (person: Person) => (path: string) => person.ask("GET", path)

/** The present position in the event stream of the user. */
export const now = (person: Person) =>
  Effect.map(person.ask("GET", "/events?timeout=0"), ({ body }): string => body.end)

/** Waits for the first matching event in the event stream of the user after `from`. */
export const next = (person: Person, from: string, matches: (event: Body) => boolean) =>
  Effect.map(waitFor(pollOf(person), from, matches), ({ event }) => event)

/** Sends a message. Returns the event ID. */
export const sendText = (person: Person, room: string, body: string) =>
  Effect.map(person.ask("POST", `/rooms/${inPath(room)}/send/m.room.message`, text(body)), ({ body }) => body.event_id)
