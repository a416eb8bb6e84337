/**
 * How a room of other servers begins here: with the state before the join of our user, each event of it checked. The state
 * may have very many events, so it is written in parts and taken into memory in slices; the room is ours with the last part.
 *
 * Source: docs/federation.md, "Joining".
 */
import type { Event } from "@greenroom/protocol/Event"
import type { ServerName } from "@greenroom/protocol/Identifiers"
import { Forbidden } from "@greenroom/protocol/MatrixError"
import { type Refusal, stateKeyOf } from "@greenroom/room/RoomVersion"
import { EventStatus } from "@greenroom/store/EventLog"
import { Array as Arr, Effect } from "effect"
import { sliced } from "../../runtime/Slices.ts"
import type { RemoteState } from "../RemoteRooms.ts"
import { makeCommitsInFlight } from "./CommitsInFlight.ts"
import type { CurrentEntry } from "./CurrentState.ts"
import { isAfterGap } from "./PlacementPlans.ts"
import { withReplaced } from "./ReplacedState.ts"
import type { FoundEvents } from "./RoomEvents.ts"
import type { Failure, RoomIntake } from "./RoomIntake.ts"
import type { CurrentChange, RoomState } from "./RoomState.ts"
import type { RoomStep } from "./RoomStep.ts"
import type { RoomWriter } from "./RoomWriter.ts"

/** How many entries of a state are written at once. */
const writtenAtOnce = 1_000

export const makeRoomBeginning = (writer: RoomWriter, { graph, queueOutliers }: RoomIntake) => {
  const { log, nextChain, nextNid, roomId, serverName, withNids } = writer

  /**
   * The leave by which one of our users ended the join in a given state. The other server may lie, or may not have received the leave:
   * nobody is in a room again because another user joins it.
   */
  const endOf = (room: RoomState, key: string, { event, nid }: CurrentEntry): CurrentEntry | undefined => {
    if (event.type !== "m.room.member" || event.content.membership !== "join") return undefined
    const current = room.current.get(key)
    const isOwnLeave = current?.event.content.membership === "leave" && current.event.sender === event.state_key
    return isOwnLeave && event.origin === serverName && nid < current.nid ? current : undefined
  }

  /** The events of the state, by type and state key. They are queued; `stored` waits until they are durable. */
  const entriesOf = Effect.fnUntraced(function* (room: RoomState, { authChain, state }: RemoteState) {
    const { found: known, stored } = yield* queueOutliers(room, [...authChain, ...state])
    const entries = yield* sliced(function* () {
      const entries = new Map<string, CurrentEntry>()
      for (const { event_id, state_key, type } of state) {
        yield
        const found = known.get(event_id)
        if (found === undefined || found.status === EventStatus.rejected || state_key === undefined) continue
        const [key, entry] = [stateKeyOf(type, state_key), { nid: found.nid, event: found.event }]
        entries.set(key, endOf(room, key, entry) ?? entry)
      }
      return entries
    })
    return { known, entries, stored }
  })

  const refusalOf = (room: RoomState, join: Event, entries: ReadonlyMap<string, CurrentEntry>): Refusal | undefined => {
    const create = entries.get(stateKeyOf("m.room.create", ""))?.event
    return create === undefined || create.room_id !== roomId
      ? { rule: "The state has no m.room.create of this room" }
      : room.version.authorise(join, (type, stateKey) => entries.get(stateKeyOf(type, stateKey))?.event)
  }

  const isAfterGapIn = (room: RoomState, join: Event, known: FoundEvents) =>
    join.prev_events.every((id) => known.has(id))
      ? Effect.succeed(isAfterGap(join, known))
      : Effect.map(graph.known(room, join.prev_events), (found) => isAfterGap(join, found))

  /** The state as a chain. Its last part goes with the step `last`; those before it are written here, when nothing names the chain yet. */
  const writeChain = Effect.fnUntraced(function* (
    room: RoomState,
    entries: ReadonlyMap<string, CurrentEntry>,
    last: RoomStep
  ) {
    const [begin, ...others] = Arr.chunksOf(entries, writtenAtOnce).map((part) =>
      part.map(([key, { nid }]) => [key, nid] as const)
    )
    const write = (step: RoomStep) => (step === last ? Effect.void : log.append(room.commit(step)))
    const first = others.length === 0 ? last : room.beginStep()
    const ref = yield* withNids(1, () => room.chains.beginChain(first, nextChain(), new Map(begin)))
    yield* write(first)
    const commits = makeCommitsInFlight()
    for (const part of others) {
      const step = part === others.at(-1) ? last : room.beginStep()
      room.chains.continueChain(step, ref, part)
      yield* commits.add(write(step))
    }
    yield* commits.all
    return ref
  })

  /** The members come first: a room without members counts as ours. */
  function* changesOf(
    room: RoomState,
    entries: ReadonlyMap<string, CurrentEntry>,
    joinKey: string
  ): Generator<CurrentChange, void> {
    const isIn = ({ event }: CurrentEntry) => event.type === "m.room.member" && event.content.membership === "join"
    for (const [key, entry] of entries) if (key !== joinKey && isIn(entry)) yield { key, entry }
    for (const [key, entry] of entries) if (key !== joinKey && !isIn(entry)) yield { key, entry }
    const gone = [...room.current.keys()].filter((key) => !entries.has(key) && key !== joinKey)
    for (const key of gone) yield { key, entry: undefined }
  }

  /**
   * The room begins with the state before the join, and the join.
   *
   * Dendrite drops the join of a user who is in the room for it. Where this server has lost its key, it cannot verify the former join,
   * nor place what follows that. `server` is sent the join as an event in this case, so that the next events follow it.
   */
  return Effect.fnUntraced(function* (
    room: RoomState,
    join: Event,
    given: RemoteState,
    server: ServerName
  ): Effect.fn.Return<void, Failure> {
    const { entries, known, stored } = yield* entriesOf(room, given)
    const refusal = refusalOf(room, join, entries)
    if (refusal !== undefined) {
      yield* stored
      return yield* new Forbidden({ error: `The join is not allowed: ${refusal.rule}` })
    }
    const step = room.beginStep()
    const before = yield* writeChain(room, entries, step)
    const nid = yield* withNids(1, nextNid)
    const afterGap = yield* isAfterGapIn(room, join, known)
    const joinKey = stateKeyOf(join.type, join.state_key!)
    yield* sliced(() => room.installSteps(step, changesOf(room, entries, joinKey), nid))
    const event = withReplaced(room.version, join, entries.get(joinKey)?.event)
    const durable = yield* withNids(1, () => {
      room.chains.ref = before
      room.changeCurrent(step, [{ key: joinKey, entry: { nid, event } }], nid, nextChain)
      const authNids = join.auth_events.map((id) => known.get(id)?.nid).filter((entry) => entry !== undefined)
      const after = room.ref!
      room.log(step, { nid, event, status: EventStatus.timeline, before, after }, { authNids, afterGap })
      if (authNids.length < join.auth_events.length) room.sendTo(step, nid, [server])
      room.follow(join, after, [])
      room.joinedDepth = join.depth
      return log.append(room.commit(step))
    })
    yield* Effect.all([stored, durable], { discard: true })
  })
}
