/**
 * The users that the events of one room notify by other than the default push rules: members of this server with rules of
 * their own, and everybody where the sender may mention the whole room.
 *
 * Source: "Push Rules" of the client-server specification.
 */
import type { Event } from "@greenroom/protocol/Event"
import { isUserId, type ServerName, serverNameOf, type UserId } from "@greenroom/protocol/Identifiers"
import type { RoomVersion, StateLookup } from "@greenroom/room/RoomVersion"
import type { EventPush, OwnPush, SharedPush } from "@greenroom/store/RoomCommit"
import { type MemberPushRules, mentionsRoom, type PushContext } from "../MemberPushRules.ts"

/** The room data that push rules read. */
interface PushedRoom {
  readonly version: RoomVersion
  readonly lookup: StateLookup
  readonly joinedMembers: number
  readonly ours: ServerName
}

/** From how many members on an event that notifies them alike has one row for all of them. */
const minShared = 8

/** The members with equal notifications, if they are at least four fifths of all. */
const largestGroup = (pushes: ReadonlyArray<OwnPush>, members: number): ReadonlyArray<OwnPush> => {
  const groups = Map.groupBy(pushes, ({ actions }) => actions)
  let largest: ReadonlyArray<OwnPush> = []
  for (const group of groups.values()) if (group.length > largest.length) largest = group
  return largest.length >= minShared && largest.length * 5 >= members * 4 ? largest : []
}

/** Groups members that are notified alike; the others stay single. */
const share = (
  pushes: ReadonlyArray<OwnPush>,
  members: ReadonlyArray<UserId>
): { readonly others: ReadonlyArray<OwnPush>; readonly shared?: SharedPush } => {
  const group = largestGroup(pushes, members.length)
  if (group.length === 0) return { others: pushes }
  const { actions, highlight } = group[0]!
  const alike = new Set(group.map(({ userId }) => userId))
  return {
    others: pushes.filter(({ userId }) => !alike.has(userId)),
    shared: { actions, highlight, others: members.filter((userId) => !alike.has(userId)) }
  }
}

const isText = (value: unknown): value is string => typeof value === "string"

export class RoomPushes {
  private readonly rules: MemberPushRules["Service"]
  /** The joined members of this server. */
  private readonly members = new Set<UserId>()
  /** The members that have rules of their own, as of a generation of the rules. */
  private own: ReadonlyArray<UserId> | undefined
  private generation = -1

  constructor(rules: MemberPushRules["Service"]) {
    this.rules = rules
  }

  memberJoined(userId: UserId): void {
    this.members.add(userId)
    this.own = undefined
  }

  memberLeft(userId: UserId): void {
    this.members.delete(userId)
    this.own = undefined
  }

  private membersWithRules(): ReadonlyArray<UserId> {
    const generation = this.rules.generation()
    if (this.own === undefined || generation !== this.generation) {
      this.own = [...this.members].filter((userId) => this.rules.has(userId))
      this.generation = generation
    }
    return this.own
  }

  /** The target of an invitation, who is notified without being a member. */
  private invitedBy({ content, state_key, type }: Event, ours: ServerName): UserId | undefined {
    if (type !== "m.room.member" || content.membership !== "invite") return undefined
    if (!isText(state_key) || !isUserId(state_key) || serverNameOf(state_key) !== ours) return undefined
    return this.rules.has(state_key) && !this.membersWithRules().includes(state_key) ? state_key : undefined
  }

  /** Undefined if the default rules say all. The room is as it is after the event. */
  of(event: Event, room: PushedRoom): EventPush | undefined {
    const members = this.membersWithRules()
    const invited = this.invitedBy(event, room.ours)
    const isForAll = mentionsRoom(event)
    if (members.length === 0 && invited === undefined && !isForAll) return undefined
    const mayNotify: PushContext["mayNotify"] = (key) => {
      const levels = room.version.levels(room.lookup)
      return levels.user(event.sender) >= levels.notification(key)
    }
    const context: PushContext = { event, memberCount: room.joinedMembers, mayNotify }
    const pushFor = (userId: UserId): OwnPush | undefined => {
      const name = room.lookup("m.room.member", userId)?.content.displayname
      return this.rules.evaluate(userId, context, isText(name) ? name : undefined)
    }
    const pushes: Array<OwnPush> = []
    for (const userId of members) {
      const push = userId === event.sender ? undefined : pushFor(userId)
      if (push !== undefined) pushes.push(push)
    }
    const { others, shared } = share(pushes, members)
    const ofInvited = invited === undefined ? undefined : pushFor(invited)
    return {
      mentionsRoom: isForAll && mayNotify("room"),
      own: ofInvited === undefined ? others : [...others, ofInvited],
      ...(shared === undefined ? {} : { shared })
    }
  }
}
