/**
 * The users that the events of one room notify other than by the default push rules: members of this server who have rules of
 * their own, and everybody where the sender may mention the whole room.
 *
 * Source: "Push Rules" of the client-server specification.
 */
import type { Event } from "@greenroom/protocol/Event"
import { isUserId, type ServerName, serverNameOf, type UserId } from "@greenroom/protocol/Identifiers"
import { isJsonObject } from "@greenroom/protocol/Json"
import type { RoomVersion, StateLookup } from "@greenroom/room/RoomVersion"
import type { EventPush, OwnPush } from "@greenroom/store/RoomCommit"
import type { EventContext, MemberPushRules } from "../MemberPushRules.ts"

/** The room data that push rules read. */
export interface PushedRoom {
  readonly version: RoomVersion
  readonly lookup: StateLookup
  readonly joinedMembers: number
  readonly ours: ServerName
}

const mentionsRoom = ({ content }: Event): boolean => {
  const mentions = content["m.mentions"]
  return isJsonObject(mentions) && mentions.room === true
}

const isText = (value: unknown): value is string => typeof value === "string"

export class RoomPushes {
  private readonly rules: MemberPushRules["Service"]
  /** The joined members of this server. */
  private readonly members = new Set<UserId>()
  /** Those of them who have rules of their own, as of a generation of the rules. */
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

  /** The target of an invitation is notified without being a member. */
  private recipientsOf({ content, sender, state_key, type }: Event, ours: ServerName): ReadonlyArray<UserId> {
    const members = this.membersWithRules()
    const isInvite = type === "m.room.member" && content.membership === "invite"
    const invited = isInvite && isText(state_key) && isUserId(state_key) ? state_key : undefined
    const isOurs = invited !== undefined && serverNameOf(invited) === ours && this.rules.has(invited)
    const recipients = members.includes(sender) ? members.filter((userId) => userId !== sender) : members
    return isOurs && !members.includes(invited) ? [...recipients, invited] : recipients
  }

  /** Undefined where the default rules say all. The room is as it is after the event. */
  of(event: Event, room: PushedRoom): EventPush | undefined {
    const recipients = this.recipientsOf(event, room.ours)
    const isForAll = mentionsRoom(event)
    if (recipients.length === 0 && !isForAll) return undefined
    const mayNotify: EventContext["mayNotify"] = (key) => {
      const levels = room.version.levels(room.lookup)
      return levels.user(event.sender) >= levels.notification(key)
    }
    const context: EventContext = { event, memberCount: room.joinedMembers, mayNotify }
    const own: Array<OwnPush> = []
    for (const userId of recipients) {
      const name = room.lookup("m.room.member", userId)?.content.displayname
      const push = this.rules.evaluate(userId, context, isText(name) ? name : undefined)
      if (push !== undefined) own.push(push)
    }
    return { mentionsRoom: isForAll && mayNotify("room"), own }
  }
}
