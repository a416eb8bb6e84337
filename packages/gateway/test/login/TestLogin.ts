/**
 * Gateways with login flows and mail servers for tests, and requests to them.
 */
import type { LoginOptions, MailOptions } from "@greenroom/actors/account/login/LoginOptions"
import { Effect, type Layer } from "effect"
import type { GatewayOptions } from "../../src/Gateway.ts"
import { ask, gatewayOnDatabase, gatewayWith } from "../TestGateway.ts"
import { type TestMail, testMail } from "./TestMail.ts"

/** A gateway on the database of the context. */
export const loginGatewayOnDatabase = (login: LoginOptions) => gatewayOnDatabase({}, { login })

/** A gateway on a database of its own. */
export const loginGateway = (login: LoginOptions, options: Partial<GatewayOptions> = {}) =>
  gatewayWith(options, { login })

/** The services of a gateway with its home server. */
export type LoginGateway = Layer.Success<ReturnType<typeof loginGateway>>

export const mailOptions = ({ port }: TestMail): MailOptions => ({
  host: "127.0.0.1",
  port,
  security: "none",
  from: "Green Test <noreply@green.test>"
})

/** Runs a test with a mail server and a gateway that uses it. */
export const withMail = <A, E>(login: LoginOptions, use: (mail: TestMail) => Effect.Effect<A, E, LoginGateway>) =>
  Effect.scoped(
    Effect.flatMap(testMail(), (mail) => Effect.provide(use(mail), loginGateway({ mail: mailOptions(mail), ...login })))
  )

export const post = (path: string, json: unknown, token?: string) => ask("POST", path, { json, token })
export const login = (json: unknown) => post("/login", json)
export const signUp = (json: unknown) => post("/register", json)

export const password = "m.login.password"
export const emailCode = "m.login.email.code"
export const emailUrl = "m.login.email.url"
export const oauth2 = "m.login.oauth2"
export const registrationToken = "m.login.registration_token"
