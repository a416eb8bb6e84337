/**
 * The registration of an application service: a YAML file that its operator hands to the home server.
 *
 * Source: "Registration" of the application service API; MSC2409 and MSC3202 for the unstable keys.
 */
import { Schema } from "effect"

const isRegularExpression = (text: string): boolean => {
  try {
    new RegExp(text)
    return true
  } catch {
    return false
  }
}

/** A part of the user IDs, aliases or room IDs. `exclusive`: only this service may make names in it. */
export const Namespace = Schema.Struct({
  exclusive: Schema.Boolean,
  regex: Schema.String.check(
    Schema.isMaxLength(4_096),
    Schema.makeFilter((text: string) => isRegularExpression(text), { expected: "a regular expression" })
  )
})
export type Namespace = typeof Namespace.Type

const Namespaces = Schema.optionalKey(Schema.NullOr(Schema.Array(Namespace)))
const Token = Schema.String.check(Schema.isMinLength(1), Schema.isMaxLength(1_024))

/** The registration of an application service, as its YAML file has it. */
export const AppServiceRegistration = Schema.Struct({
  /** Names the service; unique on the server, and never changed. */
  id: Schema.String.check(Schema.isMinLength(1), Schema.isMaxLength(255)),
  /** The URL of the service, without a path behind it; null for one that is sent nothing. */
  url: Schema.NullOr(Schema.String.check(Schema.isPattern(/^https?:\/\/[^\s?#]+$/))),
  /** The token of the service's requests to the home server. It is sent in an `Authorization` header, where a space would end it. */
  as_token: Token.check(Schema.isPattern(/^[!-~]+$/)),
  /** The token of the home server's requests to the service. */
  hs_token: Token,
  /** The localpart of the service's own user. */
  sender_localpart: Schema.String.check(Schema.isPattern(/^[!-9;-~]{1,200}$/)),
  namespaces: Schema.Struct({ users: Namespaces, aliases: Namespaces, rooms: Namespaces }),
  /** Whether the rates of users count for its users other than its own (default true). */
  rate_limited: Schema.optionalKey(Schema.NullOr(Schema.Boolean)),
  /** The networks that the service reaches, such as `irc`. */
  protocols: Schema.optionalKey(Schema.NullOr(Schema.Array(Schema.String.check(Schema.isMaxLength(255))))),
  /** Whether typing, receipts, presence and messages to devices are sent to it. */
  receive_ephemeral: Schema.optionalKey(Schema.NullOr(Schema.Boolean)),
  "de.sorunome.msc2409.push_ephemeral": Schema.optionalKey(Schema.NullOr(Schema.Boolean)),
  /** Whether changes of device lists and counts of one-time keys are sent to it (MSC3202). */
  "org.matrix.msc3202": Schema.optionalKey(Schema.NullOr(Schema.Boolean))
})
export type AppServiceRegistration = typeof AppServiceRegistration.Type
