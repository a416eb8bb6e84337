/**
 * The servers that take part in a room, by their joined members, and those that an event of the room concerns.
 */
import type { Event } from "@greenroom/protocol/Event"
import { type ServerName, serverNameOf, type UserId } from "@greenroom/protocol/Identifiers"
import type { EventProposal } from "@greenroom/room/RoomVersion"

const noServers: ReadonlySet<ServerName> = new Set()

/** The user whose membership an event changes. */
const targetOf = ({ state_key, type }: EventProposal | Event): UserId | undefined =>
  type === "m.room.member" ? (state_key as UserId | undefined) : undefined

export class RoomServers {
  private readonly ours: ServerName
  /** How many joined members each server has. */
  private readonly members = new Map<ServerName, number>()
  joinedMembers = 0

  constructor(ours: ServerName) {
    this.ours = ours
  }

  get byMembers(): ReadonlyMap<ServerName, number> {
    return this.members
  }

  /** Counts a user who joins the room, or one who was joined and is not any more. */
  count(userId: UserId, isJoined: boolean): void {
    const server = serverNameOf(userId)
    const change = isJoined ? 1 : -1
    this.joinedMembers += change
    const members = (this.members.get(server) ?? 0) + change
    if (members > 0) this.members.set(server, members)
    else this.members.delete(server)
  }

  /** Whether no other server takes part. */
  private get isAlone(): boolean {
    return this.members.size === 0 || (this.members.size === 1 && this.members.has(this.ours))
  }

  /** Whether other servers receive the event of a proposal. */
  concernsOthers(proposal: EventProposal): boolean {
    if (!this.isAlone) return true
    const target = targetOf(proposal)
    return target !== undefined && serverNameOf(target) !== this.ours
  }

  /** The other servers that an event concerns: those in the room before or after it, and that of its target. */
  destinations(event: Event, before: ReadonlySet<ServerName>): ReadonlySet<ServerName> {
    if (event.type !== "m.room.member" && before.size === 0 && this.isAlone) return noServers
    const destinations = new Set([...before, ...this.members.keys()])
    const target = targetOf(event)
    if (target !== undefined) destinations.add(serverNameOf(target))
    destinations.delete(this.ours)
    return destinations
  }
}
