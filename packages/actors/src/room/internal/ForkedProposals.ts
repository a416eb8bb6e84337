/**
 * Events of our own users where the graph has forked: which forward extremities such an event names, and the state before it.
 * It names all of them if they are not too many and leave room for its content; otherwise some, and the others stay.
 */
import type { Event } from "@greenroom/protocol/Event"
import type { ServerName } from "@greenroom/protocol/Identifiers"
import { type EventProposal, type PduProblem, stateKeyOf } from "@greenroom/room/RoomVersion"
import type { SigningKey } from "@greenroom/room/Signing"
import type { StateRef } from "@greenroom/store/StateStore"
import { Effect, Result } from "effect"
import type { EventStates } from "./EventStates.ts"
import type { RoomResolution } from "./RoomResolution.ts"
import type { Extremity, RoomState } from "./RoomState.ts"
import { nameOf } from "./StateBranches.ts"

export const makeForkedProposals = ({ ensure }: RoomResolution, { lookupIn, stateAfter }: EventStates) => {
  /**
   * The extremities in the order in which an event names them, where it cannot name all: those whose state agrees with
   * the current one about what decides, of each different state one, then the deepest.
   */
  const preferred = (room: RoomState, proposal: EventProposal): ReadonlyArray<Extremity> => {
    const deciding = room.version.decidingKeys(proposal).map(([type, stateKey]) => stateKeyOf(type, stateKey))
    const agreement = (ref: StateRef): number =>
      deciding.filter((key) => room.chains.valueAt(ref, key)?.id === room.current.valueOf(key)?.id).length
    const states = new Map(room.extremities.map(({ after }) => [nameOf(after), agreement(after)]))
    const byDepth = [...room.extremities].sort((a, b) => b.depth - a.depth)
    const firsts = new Set(
      new Map(byDepth.toReversed().map((extremity) => [nameOf(extremity.after), extremity])).values()
    )
    return byDepth.sort(
      (a, b) =>
        Number(firsts.has(b)) - Number(firsts.has(a)) || states.get(nameOf(b.after))! - states.get(nameOf(a.after))!
    )
  }

  /** The event that a proposal makes, or why it makes none, and the state before it. `key` signs the event. */
  const build = Effect.fnUntraced(function* (
    room: RoomState,
    proposal: EventProposal,
    now: number,
    origin: ServerName,
    key: SigningKey | undefined
  ) {
    const { maxPrevEvents, tryBuild } = room.version
    const attempt = Effect.fnUntraced(function* (named: ReadonlyArray<Extremity>) {
      const before = yield* stateAfter(
        room,
        named.map(({ after }) => after)
      )
      const state = yield* lookupIn(room, proposal, before)
      return { built: tryBuild(proposal, { prevEvents: named, state, now }, origin, key), state }
    })
    const all = room.extremities
    const whole = all.length > maxPrevEvents ? undefined : yield* attempt(all)
    if (whole !== undefined && !isCrowded(whole.built, all.length)) return whole
    yield* ensure(
      room,
      all.map(({ after }) => after)
    )
    const order = preferred(room, proposal)
    for (let count = whole === undefined ? maxPrevEvents : all.length >> 1; ; count >>= 1) {
      const some = yield* attempt(order.slice(0, count))
      if (!isCrowded(some.built, count)) return some
    }
  })

  return { build }
}

/** Whether an event that names so many predecessors might fit if it named fewer. */
const isCrowded = (built: Result.Result<Event, PduProblem>, named: number): boolean =>
  named > 1 && Result.isFailure(built) && built.failure._tag === "TooLarge"
