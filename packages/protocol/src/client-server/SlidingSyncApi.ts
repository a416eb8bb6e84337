/**
 * Simplified sliding sync: the rooms in the windows of a client's lists, with what is new there.
 *
 * Today's clients ask at the unstable path (`CanonicalPath`) and send the names of the first implementation (`ranges`,
 * `required_state` as pairs with `$LAZY` and `$ME`, parameters in the query); the accepted proposal has other names. Both are read at
 * both paths, and answers have both.
 *
 * Source: MSC4186.
 */
import { Schema } from "effect"
import { HttpApiEndpoint, HttpApiGroup, OpenApi } from "effect/http-api"
import { Authentication, LongPoll, ReadOnly } from "../api/Authentication.ts"
import { Absent } from "../api/Body.ts"
import { documented } from "../api/Documentation.ts"
import { boundedText } from "../api/Parameters.ts"
import { nullable } from "../Json.ts"
import { Count, QueryToken, Token } from "./RoomsApi.ts"
import { SlidingAnswer } from "./SyncAnswer.ts"

const limit = Schema.Number.check(Schema.isInt({ expected: "an integer" }), Schema.isGreaterThanOrEqualTo(0))
const name = boundedText(255)
const names = Schema.Array(name).check(Schema.isMaxLength(1_000))
const tags = Schema.Array(name).check(Schema.isMaxLength(100))

const StateElement = Schema.Struct({ type: nullable(name), state_key: nullable(name) })
const stateElements = Schema.Array(StateElement).check(Schema.isMaxLength(200))

/** Pairs of type and state key, or what to include and exclude. */
export const RequiredState = Schema.Union([
  Schema.Array(Schema.Tuple([name, name])).check(Schema.isMaxLength(200)),
  Schema.Struct({
    include: nullable(stateElements),
    exclude: nullable(stateElements),
    lazy_members: nullable(Schema.Boolean)
  })
])
export type RequiredState = typeof RequiredState.Type

const roomFields = { timeline_limit: nullable(limit), required_state: nullable(RequiredState) }

const Range = Schema.Tuple([limit, limit])
const roomTypes = Schema.Array(Schema.NullOr(name)).check(Schema.isMaxLength(100))

/** The rooms of a list. */
export const SlidingFilters = Schema.Struct({
  is_dm: nullable(Schema.Boolean),
  spaces: nullable(Schema.Array(name).check(Schema.isMaxLength(100))),
  is_encrypted: nullable(Schema.Boolean),
  is_invite: nullable(Schema.Boolean),
  is_invited: nullable(Schema.Boolean),
  room_types: nullable(roomTypes),
  not_room_types: nullable(roomTypes),
  tags: nullable(tags),
  not_tags: nullable(tags)
})
export type SlidingFilters = typeof SlidingFilters.Type

/** A list of rooms, and the windows in it that the client shows. */
export const SlidingList = Schema.Struct({
  ...roomFields,
  ranges: nullable(Schema.Array(Range).check(Schema.isMaxLength(100))),
  range: nullable(Range),
  filters: nullable(SlidingFilters)
})
export type SlidingList = typeof SlidingList.Type

/** A room that the client shows, whether or not it is in a window. */
export const SlidingSubscription = Schema.Struct(roomFields)
export type SlidingSubscription = typeof SlidingSubscription.Type

const scope = { enabled: nullable(Schema.Boolean), lists: nullable(names), rooms: nullable(names) }
const Scoped = Schema.Struct(scope)
/** An extension that is about rooms: of which lists and subscriptions; all, if it does not say. */
export type SlidingScope = typeof Scoped.Type

/** What an answer has beside rooms. */
export const SlidingExtensions = Schema.Struct({
  to_device: nullable(
    Schema.Struct({ enabled: nullable(Schema.Boolean), limit: nullable(limit), since: nullable(Token) })
  ),
  e2ee: nullable(Schema.Struct({ enabled: nullable(Schema.Boolean) })),
  account_data: nullable(Scoped),
  receipts: nullable(Scoped),
  typing: nullable(Scoped)
})
export type SlidingExtensions = typeof SlidingExtensions.Type

/** The body of a request. It has all lists and subscriptions, also unchanged ones. */
export const SlidingSyncBody = Schema.Struct({
  conn_id: nullable(name),
  txn_id: nullable(name),
  pos: nullable(Token),
  timeout: nullable(limit),
  set_presence: nullable(Schema.String),
  lists: nullable(Schema.Record(Schema.String, SlidingList)),
  room_subscriptions: nullable(Schema.Record(Schema.String, SlidingSubscription)),
  extensions: nullable(SlidingExtensions)
})
export type SlidingSyncBody = typeof SlidingSyncBody.Type

export class SlidingSyncApi extends HttpApiGroup.make("clientServer.slidingSync")
  .add(
    HttpApiEndpoint.post("slidingSync", "/v4/sync", {
      query: {
        pos: QueryToken,
        timeout: Schema.optional(Count.annotate({ description: "Milliseconds to wait for updates" })),
        set_presence: Schema.optional(Schema.Literals(["online", "offline", "unavailable"]))
      },
      payload: [SlidingSyncBody, Absent],
      success: SlidingAnswer
    })
      .annotate(LongPoll, true)
      .annotate(ReadOnly, true)
      .annotateMerge(
        documented({
          summary: "The updates of a window of the user's rooms",
          text:
            "Simplified sliding sync (MSC4186). Waits up to `timeout` (at most five minutes), but not without `pos`. " +
            "Errors: M_UNKNOWN_POS for a position that is no longer stored (begin without `pos`); M_INVALID_PARAM.",
          who: "any user"
        })
      )
  )
  .middleware(Authentication)
  .annotateMerge(OpenApi.annotations({ title: "Sliding sync" })) {}
