/**
 * The answers to `/sync` and to simplified sliding sync, as far as clients read them. Servers may send more: answers keep what is not
 * named here.
 *
 * Source: "Syncing" of the client-server specification, "Response Body" of MSC4186.
 */
import { Schema } from "effect"
import { body } from "../api/Body.ts"
import { UserId } from "../Identifiers.ts"
import { JsonObject } from "../Json.ts"
import { ClientEventSchema } from "./ClientEventSchema.ts"

const optional = Schema.optionalKey
const byKey = <S extends Schema.Top>(value: S) => Schema.Record(Schema.String, value)

/** An event without an ID, such as account data, typing or stripped state. */
export const SimpleEvent = Schema.Struct({
  type: Schema.String,
  content: JsonObject,
  sender: optional(UserId),
  state_key: optional(Schema.String)
}).annotate({ identifier: "SimpleEvent" })
export type SimpleEvent = typeof SimpleEvent.Type

const simpleEvents = Schema.Array(SimpleEvent)
const clientEvents = Schema.Array(ClientEventSchema)
const Simple = Schema.Struct({ events: simpleEvents })
const State = Schema.Struct({ events: clientEvents })
const Unread = Schema.Struct({ notification_count: optional(Schema.Int), highlight_count: optional(Schema.Int) })

/** A room that the user is in, or has left. */
export const SyncedRoom = Schema.Struct({
  timeline: optional(
    Schema.Struct({
      events: clientEvents,
      limited: optional(
        Schema.Boolean.annotate({
          description: "Whether there are events between the last answer and this timeline, which `prev_batch` leads to"
        })
      ),
      prev_batch: optional(Schema.String)
    })
  ),
  state: optional(State.annotate({ description: "The state before the timeline" })),
  state_after: optional(State.annotate({ description: "The state after the timeline, with `use_state_after`" })),
  summary: optional(
    Schema.Struct({
      "m.heroes": optional(Schema.Array(UserId)),
      "m.joined_member_count": optional(Schema.Int),
      "m.invited_member_count": optional(Schema.Int)
    })
  ),
  ephemeral: optional(Simple),
  account_data: optional(Simple),
  unread_notifications: optional(Unread),
  unread_thread_notifications: optional(byKey(Unread).annotate({ description: "By the IDs of the roots of threads" }))
}).annotate({ identifier: "SyncedRoom" })
export type SyncedRoom = typeof SyncedRoom.Type

const keyCounts = {
  device_one_time_keys_count: optional(byKey(Schema.Int).annotate({ description: "By algorithm" })),
  device_unused_fallback_key_types: optional(Schema.Array(Schema.String))
}
const DeviceLists = Schema.Struct({ changed: optional(Schema.Array(UserId)), left: optional(Schema.Array(UserId)) })

/** The updates since a token. Absent fields are unchanged. */
const Described = Schema.Struct({
  next_batch: Schema.String.annotate({ description: "The `since` of the next sync" }),
  rooms: optional(
    Schema.Struct({
      join: optional(byKey(SyncedRoom)),
      invite: optional(byKey(Schema.Struct({ invite_state: Simple }))),
      knock: optional(byKey(Schema.Struct({ knock_state: Simple }))),
      leave: optional(byKey(SyncedRoom))
    })
  ),
  account_data: optional(Simple),
  presence: optional(Simple),
  to_device: optional(Simple),
  device_lists: optional(DeviceLists),
  ...keyCounts
}).annotate({ identifier: "SyncAnswer" })
export const SyncAnswer = body(Described)
export type SyncAnswer = typeof Described.Type

const Hero = Schema.Struct({
  user_id: UserId,
  displayname: optional(Schema.String),
  avatar_url: optional(Schema.String)
})

/** The updates of a room. An absent field is unchanged, or not set in a room that is `initial`. */
const SlidingRoom = Schema.Struct({
  initial: optional(Schema.Boolean),
  membership: optional(Schema.String),
  lists: optional(Schema.Array(Schema.String)),
  name: optional(Schema.NullOr(Schema.String)),
  avatar: optional(Schema.NullOr(Schema.String)),
  heroes: optional(Schema.Array(Hero)),
  is_dm: optional(Schema.Boolean),
  bump_stamp: optional(Schema.Int),
  required_state: optional(clientEvents),
  timeline: optional(clientEvents),
  limited: optional(Schema.Boolean),
  expanded_timeline: optional(Schema.Boolean),
  num_live: optional(Schema.Int),
  prev_batch: optional(Schema.String),
  joined_count: optional(Schema.Int),
  invited_count: optional(Schema.Int),
  ...Unread.fields,
  invite_state: optional(simpleEvents),
  stripped_state: optional(simpleEvents)
}).annotate({ identifier: "SlidingRoom" })

const ofRooms = Schema.Struct({ rooms: optional(byKey(SimpleEvent)) })

/** The answer to simplified sliding sync. */
export const SlidingAnswer = body(
  Schema.Struct({
    pos: Schema.String.annotate({ description: "The `pos` of the next request" }),
    txn_id: optional(Schema.String),
    lists: optional(byKey(Schema.Struct({ count: Schema.Int }))),
    rooms: optional(byKey(SlidingRoom)),
    extensions: optional(
      Schema.Struct({
        account_data: optional(Schema.Struct({ global: optional(simpleEvents), rooms: optional(byKey(simpleEvents)) })),
        receipts: optional(ofRooms),
        typing: optional(ofRooms),
        to_device: optional(Schema.Struct({ next_batch: Schema.String, events: optional(simpleEvents) })),
        e2ee: optional(Schema.Struct({ device_lists: optional(DeviceLists), ...keyCounts }))
      })
    )
  }).annotate({ identifier: "SlidingSyncAnswer" })
)
export type SlidingAnswer = typeof SlidingAnswer.Type
