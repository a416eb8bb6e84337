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
import { Authentication, LongPoll } from "../api/Authentication.ts"
import { Absent } from "../api/Body.ts"
import { documented } from "../api/Documentation.ts"
import { boundedText } from "../api/Parameters.ts"
import { Count, QueryToken, Token } from "./RoomsApi.ts"
import { SlidingAnswer } from "./SyncAnswer.ts"

const optional = <S extends Schema.Top>(schema: S) => Schema.optionalKey(Schema.NullOr(schema))

const limit = Schema.Number.check(Schema.isInt({ expected: "an integer" }), Schema.isGreaterThanOrEqualTo(0))
const name = boundedText(255)
const names = Schema.Array(name).check(Schema.isMaxLength(1_000))
const tags = Schema.Array(name).check(Schema.isMaxLength(100))

const StateElement = Schema.Struct({ type: optional(name), state_key: optional(name) })
const stateElements = Schema.Array(StateElement).check(Schema.isMaxLength(200))

/** Pairs of type and state key, or what to include and exclude. */
export const RequiredState = Schema.Union([
  Schema.Array(Schema.Tuple([name, name])).check(Schema.isMaxLength(200)),
  Schema.Struct({
    include: optional(stateElements),
    exclude: optional(stateElements),
    lazy_members: optional(Schema.Boolean)
  })
])
export type RequiredState = typeof RequiredState.Type

const roomFields = { timeline_limit: optional(limit), required_state: optional(RequiredState) }

const Range = Schema.Tuple([limit, limit])
const roomTypes = Schema.Array(Schema.NullOr(name)).check(Schema.isMaxLength(100))

export const SlidingFilters = Schema.Struct({
  is_dm: optional(Schema.Boolean),
  spaces: optional(Schema.Array(name).check(Schema.isMaxLength(100))),
  is_encrypted: optional(Schema.Boolean),
  is_invite: optional(Schema.Boolean),
  is_invited: optional(Schema.Boolean),
  room_types: optional(roomTypes),
  not_room_types: optional(roomTypes),
  tags: optional(tags),
  not_tags: optional(tags)
})
export type SlidingFilters = typeof SlidingFilters.Type

export const SlidingList = Schema.Struct({
  ...roomFields,
  ranges: optional(Schema.Array(Range).check(Schema.isMaxLength(100))),
  range: optional(Range),
  filters: optional(SlidingFilters)
})
export type SlidingList = typeof SlidingList.Type

export const SlidingSubscription = Schema.Struct(roomFields)
export type SlidingSubscription = typeof SlidingSubscription.Type

const scope = { enabled: optional(Schema.Boolean), lists: optional(names), rooms: optional(names) }
const Scoped = Schema.Struct(scope)
/** An extension that is about rooms: of which lists and subscriptions; all, if it does not say. */
export type SlidingScope = typeof Scoped.Type

export const SlidingExtensions = Schema.Struct({
  to_device: optional(
    Schema.Struct({ enabled: optional(Schema.Boolean), limit: optional(limit), since: optional(Token) })
  ),
  e2ee: optional(Schema.Struct({ enabled: optional(Schema.Boolean) })),
  account_data: optional(Scoped),
  receipts: optional(Scoped),
  typing: optional(Scoped)
})
export type SlidingExtensions = typeof SlidingExtensions.Type

export const SlidingSyncBody = Schema.Struct({
  conn_id: optional(name),
  txn_id: optional(name),
  pos: optional(Token),
  timeout: optional(limit),
  set_presence: optional(Schema.String),
  lists: optional(Schema.Record(Schema.String, SlidingList)),
  room_subscriptions: optional(Schema.Record(Schema.String, SlidingSubscription)),
  extensions: optional(SlidingExtensions)
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
