/**
 * The changes of one or more events to a room, collected until they are committed together.
 */
import type { ServerName } from "@greenroom/protocol/Identifiers"
import type { LoggedEvent, MembershipChange, PlacedEvent } from "@greenroom/store/EventLog"
import type { NewChain, StateDelta } from "@greenroom/store/StateStore"

export interface RoomStep {
  readonly events: Array<LoggedEvent>
  readonly placed: Array<PlacedEvent>
  readonly chains: Array<NewChain>
  readonly deltas: Array<StateDelta>
  readonly memberships: Array<MembershipChange>
  readonly outgoing: Array<{ destination: ServerName; nid: number }>
}

export const emptyStep = (): RoomStep => ({
  events: [],
  placed: [],
  chains: [],
  deltas: [],
  memberships: [],
  outgoing: []
})
