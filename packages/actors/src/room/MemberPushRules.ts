/**
 * The push rules that users have made, as rooms need them when an event is committed. The event is evaluated once for the
 * members that have rules of their own, and the resulting rows are committed with it. Members with the default rules need no
 * rows.
 *
 * Evaluation reads only memory, so that a step of a room stays synchronous. `user/push/MemberPushRulesLive.ts` provides the
 * service.
 *
 * Source: "Push Rules" of the client-server specification.
 */
import type { Event } from "@greenroom/protocol/Event"
import type { UserId } from "@greenroom/protocol/Identifiers"
import { isJsonObject } from "@greenroom/protocol/Json"
import type { OwnPush } from "@greenroom/store/RoomCommit"
import { Context } from "effect"

/** An event and what the conditions ask of its room. */
export interface PushContext {
  readonly event: Event
  /** Members who have joined. */
  readonly memberCount: number
  /** Whether the sender has the power to notify the room with this key of `notifications` (such as `room`). */
  readonly mayNotify: (key: string) => boolean
}

/** Whether the event mentions all members of its room (`m.mentions`). */
export const mentionsRoom = ({ content }: Event): boolean => {
  const mentions = content["m.mentions"]
  return isJsonObject(mentions) && mentions.room === true
}

/** Whom an event notifies among the members that have push rules of their own, provided by `user/push/MemberPushRulesLive`. */
export class MemberPushRules extends Context.Service<
  MemberPushRules,
  {
    /** Changes whenever the rules of any user have changed. */
    readonly generation: () => number
    /** Whether the user has rules of their own. */
    readonly has: (userId: UserId) => boolean
    /** The transaction of the log from which on the user's notifications are rows; undefined without rules of their own. */
    readonly since: (userId: UserId) => number | undefined
    /** The effect of another user's event on a user with own rules; undefined if it does not notify. */
    readonly evaluate: (userId: UserId, context: PushContext, displayName: string | undefined) => OwnPush | undefined
  }
>()("greenroom/actors/room/MemberPushRules") {}
