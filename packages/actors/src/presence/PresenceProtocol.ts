/**
 * The messages of the `Presence` actor.
 */
import { PresenceState } from "@greenroom/protocol/api/PresenceApi"
import { UserId } from "@greenroom/protocol/Identifiers"
import { Schema } from "effect"
import { ClusterSchema, Entity } from "effect/cluster"
import { Rpc } from "effect/rpc"
import { DeviceReport } from "./PresenceRules.ts"

/** The devices of the user on one node. */
export const NodeReport = Schema.Struct({ node: Schema.String, devices: Schema.Array(DeviceReport) })
export type NodeReport = typeof NodeReport.Type

/** `until`: when to report again at the latest. `idle`: whether to report at the next activity. */
export const Outlook = Schema.Struct({ until: Schema.UndefinedOr(Schema.Number), idle: Schema.Boolean })
export type Outlook = typeof Outlook.Type

/** The presence as the user sees it; `last_active_at` in milliseconds since 1970. */
const OwnPresence = Schema.Struct({
  user_id: UserId,
  state: Schema.String,
  presence: Schema.String,
  status_msg: Schema.optionalKey(Schema.String),
  displayname: Schema.optionalKey(Schema.String),
  avatar_url: Schema.optionalKey(Schema.String),
  last_active_at: Schema.optionalKey(Schema.Number)
})

/** The user chooses a state; without `status_msg` the message is taken away. Answered when it is durable. */
const Choose = Rpc.make("Choose", {
  payload: { state: PresenceState, status_msg: Schema.UndefinedOr(Schema.String), report: NodeReport },
  success: Outlook
})
/** A device connected, disconnected, became active after idling, or a time that the actor gave has come. */
const Report = Rpc.make("Report", { payload: NodeReport, success: Outlook })
/** The display name, the avatar, or the set of observers changed: publish again. */
const Announce = Rpc.make("Announce")
/** The presence as its user sees it. */
const Own = Rpc.make("Own", { success: OwnPresence })
/** The account was deactivated: the user goes offline, and nothing is kept. */
const Forget = Rpc.make("Forget")

/** The entity; its key is the user ID. */
export const Presence = Entity.make("Presence", [Choose, Report, Announce, Own, Forget]).annotateRpcs(
  ClusterSchema.Uninterruptible,
  true
)
