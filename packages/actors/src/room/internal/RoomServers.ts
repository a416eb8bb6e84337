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

  /** Counts a user who joins the room, or leaves it. */
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

  /** Whether other servers may receive the event of a proposal. */
  concernsOthers(proposal: EventProposal): boolean {
    if (!this.isAlone) return true
    const target = targetOf(proposal)
    return target !== undefined && serverNameOf(target) !== this.ours
  }

  /**
   * The servers in the room before an event, and that of its target where the event is an invitation, or ends one or a knock. Invitations
   * that are made with a room of the draft's version are sent to that server as events alone. A server that is not in the room is sent
   * nothing else about its users, as when they are banned.
   */
  before(event: Event, target: Event | undefined): ReadonlySet<ServerName> {
    const servers = new Set(this.members.keys())
    const userId = targetOf(event)
    const isPending = target?.content.membership === "invite" || target?.content.membership === "knock"
    if (userId !== undefined && (isPending || event.content.membership === "invite")) servers.add(serverNameOf(userId))
    return servers
  }

  /** The other servers that an event concerns: those in the room after it, and those `before` it. */
  destinations(before: ReadonlySet<ServerName>): ReadonlySet<ServerName> {
    if (before.size === 0 && this.isAlone) return noServers
    const destinations = new Set([...before, ...this.members.keys()])
    destinations.delete(this.ours)
    return destinations
  }
}
