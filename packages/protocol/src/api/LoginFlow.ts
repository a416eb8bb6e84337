/**
 * The stages of a registration or a login, request by request.
 *
 * Source: "Registration and login" of the draft.
 */
import { Schema } from "effect"
import { ServerName, UserId } from "../Identifiers.ts"
import { AnyValue, body } from "./Body.ts"

/** The longest secret that is looked at, in characters: hashing takes time by its length. */
export const maxSecretLength = 512

const text = (description: string, most = 512) =>
  Schema.optionalKey(
    Schema.NullOr(Schema.String.check(Schema.isMaxLength(most))).annotate({ description, expected: "a string" })
  )

/**
 * One stage of a registration or login. Which keys a stage needs depends on its `type`; keys that are not named here
 * are kept, for types yet to come. A key that is null says the same as none: some clients send all of them.
 */
export const LoginStage = Schema.StructWithRest(
  Schema.Struct({
    type: text(
      "m.login.password, m.login.oauth2, m.login.email.code, m.login.email.url or m.login.registration_token",
      255
    ),
    user: text("A whole user ID, or its localpart"),
    user_id: text("The earliest name of `user`, in a registration without `type`"),
    password: text("For m.login.password", maxSecretLength),
    session: text("The `session` of the previous answer of this login"),
    email: text("For m.login.email.code and m.login.email.url"),
    code: text("The code in the mail, for m.login.email.code"),
    token: text("For m.login.registration_token"),
    device_name: text("The user's name for the device that logs in", 255),
    fallback: Schema.optionalKey(
      Schema.NullOr(Schema.Boolean).annotate({
        description: "True from the fallback page, to which an OAuth2 login then returns",
        expected: "true or false"
      })
    )
  }),
  [Schema.Record(Schema.String, AnyValue)]
).annotate({
  identifier: "LoginStage",
  examples: [{ type: "m.login.password", user: "alice", password: "wonderland" }]
})
export type LoginStage = typeof LoginStage.Type

const Flow = Schema.Struct({
  type: Schema.String,
  stages: Schema.optionalKey(Schema.Array(Schema.String))
}).annotate({ identifier: "LoginFlow" })

/** A way to log in: one stage, or several in this order. */
export type LoginFlow = typeof Flow.Type

/** The flows, and beside them `type` and `stages` of the first one, as the first clients read it. */
export const LoginFlows = body(
  Schema.Struct({
    flows: Schema.Array(Flow),
    type: Schema.optionalKey(Schema.String),
    stages: Schema.optionalKey(Schema.Array(Schema.String))
  }).annotate({
    identifier: "LoginFlows",
    examples: [
      {
        flows: [
          { type: "m.login.password" },
          { type: "m.login.password", stages: ["m.login.password", "m.login.email.code"] }
        ],
        type: "m.login.password"
      }
    ]
  })
)
export type LoginFlows = typeof LoginFlows.Type

const CredentialsFields = Schema.Struct({
  user_id: UserId,
  access_token: Schema.String,
  home_server: ServerName,
  device_id: Schema.optionalKey(Schema.String)
}).annotate({ identifier: "Credentials" })

/** The result of a finished login. */
export const Credentials = body(CredentialsFields)
export type Credentials = typeof Credentials.Type

/** The state of an unfinished login: the `next` type, a `uri` to visit, and the `session` to send with it. */
const NextStage = Schema.Struct({
  type: Schema.optionalKey(Schema.String),
  next: Schema.optionalKey(Schema.String),
  session: Schema.optionalKey(Schema.String),
  uri: Schema.optionalKey(Schema.String)
}).annotate({ identifier: "NextStage" })
export type NextStage = typeof NextStage.Type

/** The answer to a stage: credentials, or the next stage. */
export const LoginAnswer = body(Schema.Union([CredentialsFields, NextStage]))
export type LoginAnswer = Credentials | NextStage
