/**
 * Checks of push rules that users make: their actions, and the fields that each kind of condition requires. Kinds of
 * conditions that are not known are kept; they match nothing.
 *
 * Source: "Push Rules" of the client-server specification, `definitions/push_condition.yaml`.
 */
import type { Json, JsonObject } from "@greenroom/protocol/Json"
import { BadRequest } from "@greenroom/protocol/MatrixError"
import type { PushAction } from "./PushRule.ts"

/** `dont_notify` and `coalesce` are of former versions: clients still send them. */
const knownActions: ReadonlySet<Json> = new Set(["notify", "dont_notify", "coalesce"])

const isAction = (value: Json): boolean =>
  typeof value === "object" && value !== null && !Array.isArray(value)
    ? typeof (value as JsonObject).set_tweak === "string"
    : knownActions.has(value)

/** The error of actions that no rule may have. */
export const wrongActions = (actions: ReadonlyArray<PushAction>): BadRequest | undefined =>
  actions.every(isAction)
    ? undefined
    : new BadRequest({ error: "actions: expected `notify` or objects with `set_tweak`" })

const isScalar = (value: Json | undefined): boolean =>
  value !== undefined && (value === null || typeof value !== "object")

const isText = (value: Json | undefined): boolean => typeof value === "string"

type Fields = { readonly [field: string]: (value: Json | undefined) => boolean }

const required: ReadonlyMap<string, Fields> = new Map<string, Fields>([
  ["event_match", { key: isText, pattern: isText }],
  ["event_property_is", { key: isText, value: isScalar }],
  ["event_property_contains", { key: isText, value: isScalar }],
  ["room_member_count", { is: (value) => typeof value === "string" && /^(==|<=|>=|<|>)?[0-9]{1,15}$/.test(value) }],
  ["sender_notification_permission", { key: isText }]
])

/** The error of conditions that no rule may have. */
export const wrongConditions = (conditions: ReadonlyArray<JsonObject>): BadRequest | undefined => {
  for (const [index, condition] of conditions.entries()) {
    const { kind } = condition
    if (typeof kind !== "string") return new BadRequest({ error: `conditions[${index}].kind: expected a string` })
    const wrong = Object.entries(required.get(kind) ?? {}).find(([field, holds]) => !holds(condition[field] as Json))
    if (wrong !== undefined) {
      return new BadRequest({ error: `conditions[${index}].${wrong[0]}: missing, or not what ${kind} requires` })
    }
  }
  return undefined
}
