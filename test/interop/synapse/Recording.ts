/** Fixtures of rooms from the databases of two servers. `packages/room/test/fixtures/synapse/README.md` describes their form. */
import type { Body } from "../../support/Curl.ts"
import type { EventTables, StateMap, StoredEvent } from "./EventTables.ts"
import { stateKeyOf } from "./EventTables.ts"
import type { Pair, Server } from "./Pair.ts"
import type { Forgery, SceneResult } from "./Scene.ts"
import { canonicalJson, eventId, keyId, type Pdu, publicKey } from "./SignedJson.ts"

/** The state before an event: the state after it without its own change. */
const stateBefore = ({ event_id, pdu, replaces }: StoredEvent, after: StateMap | undefined) => {
  if (after === undefined) return undefined
  if (pdu.state_key === undefined) return after
  const key = stateKeyOf(pdu.type, pdu.state_key as string)
  if (after.get(key) !== event_id) return after
  const before = new Map(after)
  if (replaces === undefined) before.delete(key)
  else before.set(key, replaces)
  return before
}

class Side {
  readonly events: ReadonlyMap<string, StoredEvent>
  private readonly after: ReadonlyMap<string, StateMap>

  constructor(tables: EventTables, room: string) {
    this.events = new Map(tables.events(room).map((event) => [event.event_id, event]))
    this.after = tables.statesAfter(room)
  }

  /** The outcome of the event on this side, with the state before it as indices. */
  readonly outcomeOf = (eventId: string, indexOf: (eventId: string) => number) => {
    const event = this.events.get(eventId)
    if (event === undefined) return undefined
    const before = event.verdict.outlier ? undefined : stateBefore(event, this.after.get(eventId))
    const indices = before === undefined ? undefined : [...before.values()].map(indexOf).sort((x, y) => x - y)
    return { order: event.order, ...event.verdict, ...(indices === undefined ? {} : { state_before: indices }) }
  }
}

/** Asserts that the database and the federation API agree. Returns the redacted event if it was redacted. */
const servedAs = async (pair: Pair, event: StoredEvent, isRedacted: boolean): Promise<Pdu | undefined> => {
  const served = await pair.asB.event(event.event_id)
  if (served === undefined) return undefined
  const { unsigned: _, ...pdu } = served
  if (canonicalJson(pdu) === canonicalJson(event.pdu)) return undefined
  if (!isRedacted) throw new Error(`${event.event_id} is served otherwise than stored: ${canonicalJson(pdu)}`)
  return pdu
}

const currentState = (tables: EventTables, room: string) =>
  [...tables.currentState(room)].map(([key, eventId]) => [...(JSON.parse(key) as [string, string]), eventId])

/** Asserts that the client API and the database have the same state. */
const checkState = async (pair: Pair, room: string, state: ReadonlyArray<Body>): Promise<void> => {
  const ids = (events: Iterable<string>) => JSON.stringify([...events].sort())
  const recorded = ids(pair.a.tables.currentState(room).values())
  const reported = ids(state.map((event) => event.event_id))
  if (recorded !== reported) throw new Error(`The state of ${room} is ${recorded} in the database, but ${reported}`)
}

/** Omits the PDU of a forgery that is stored unchanged. */
const withoutStored = ({ pdu, ...rest }: Forgery, { events }: Side) => {
  const stored = events.get(rest.event_id)
  return stored !== undefined && canonicalJson(stored.pdu) === canonicalJson(pdu) ? rest : { ...rest, pdu }
}

export const recordRoom = async (
  pair: Pair,
  version: number,
  scene: string,
  result: SceneResult,
  state: ReadonlyArray<Body>
) => {
  const { forgeries, room } = result
  await checkState(pair, room, state)
  const [a, b] = [new Side(pair.a.tables, room), new Side(pair.b.tables, room)]
  const onlyB = [...b.events.values()].filter((event) => !a.events.has(event.event_id))
  const stored = [...a.events.values(), ...onlyB].sort((x, y) => x.depth - y.depth)
  const indices = new Map(stored.map((event, index) => [event.event_id, index]))
  const indexOf = (eventId: string) => indices.get(eventId) ?? -1
  const redactions = pair.a.tables.redactions(room)
  const events = []
  for (const event of stored) {
    const { event_id, pdu } = event
    if (eventId(pdu, version) !== event_id) throw new Error(`${event_id} is not the hash of ${canonicalJson(pdu)}`)
    const redacts = redactions.get(event_id)
    const redacted = await servedAs(pair, event, redacts !== undefined)
    const onA = a.outcomeOf(event_id, indexOf)
    const onB = b.outcomeOf(event_id, indexOf)
    const same = JSON.stringify(onA?.state_before) === JSON.stringify(onB?.state_before)
    events.push({
      event_id,
      pdu,
      ...(redacts === undefined ? {} : { redacted_by: redacts }),
      ...(redacted === undefined ? {} : { redacted }),
      ...(onA === undefined ? {} : { a: onA }),
      ...(onB === undefined ? {} : { b: same ? { ...onB, state_before: undefined } : onB })
    })
  }
  return {
    scene,
    room_id: room,
    events,
    ...(forgeries === undefined ? {} : { forgeries: forgeries.map((forgery) => withoutStored(forgery, a)) }),
    forward_extremities: {
      a: pair.a.tables.forwardExtremities(room),
      b: pair.b.tables.forwardExtremities(room)
    },
    current_state: { a: currentState(pair.a.tables, room), b: currentState(pair.b.tables, room) }
  }
}

export type RecordedRoom = Awaited<ReturnType<typeof recordRoom>>

const server = ({ name, signer }: Server) => ({ server_name: name, verify_keys: { [keyId]: publicKey(signer.key) } })

const lines = (values: ReadonlyArray<unknown>) => values.map((value) => JSON.stringify(value)).join(",\n")

const roomText = ({ current_state, events, forgeries, ...rest }: RecordedRoom) =>
  [
    JSON.stringify(rest).slice(0, -1),
    `"events":[\n${lines(events)}]`,
    ...(forgeries === undefined ? [] : [`"forgeries":[\n${lines(forgeries)}]`]),
    `"current_state":{"a":[\n${lines(current_state.a)}],"b":[\n${lines(current_state.b)}]}}`
  ].join(",\n")

/** JSON with one event per line. */
export const fixtureText = (
  pair: Pair,
  implementation: string,
  version: number,
  rooms: ReadonlyArray<RecordedRoom>
): string => {
  const head = { implementation, room_version: `${version}`, servers: { a: server(pair.a), b: server(pair.b) } }
  return `${JSON.stringify(head).slice(0, -1)},\n"rooms":[\n${rooms.map(roomText).join(",\n")}]}\n`
}
