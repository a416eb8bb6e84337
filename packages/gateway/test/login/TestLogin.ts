/**
 * A gateway with flows as a test wants them, and what one posts to it.
 */

import type { LoginOptions, MailOptions } from "@greenroom/actors/account/login/LoginOptions"
import * as HomeServer from "@greenroom/actors/HomeServer"
import * as TestDatabase from "@greenroom/store/testing/TestDatabase"
import { Effect, Layer } from "effect"
import { Gateway, type GatewayOptions } from "../../src/Gateway.ts"
import { unlimited } from "../../src/Rate.ts"
import { ask, serverName } from "../TestGateway.ts"
import { type TestMail, testMail } from "./TestMail.ts"

/** A gateway on the database that is there. */
export const gatewayOn = (login: LoginOptions, options: Partial<GatewayOptions> = {}) =>
  Gateway.layer({ host: "127.0.0.1", port: 0, rates: unlimited, ...options }).pipe(
    Layer.provideMerge(HomeServer.layerOnDatabase({ serverName, dataDir: "unused", login }))
  )

/** A gateway on a database of its own. */
export const loginGateway = (login: LoginOptions, options: Partial<GatewayOptions> = {}) =>
  gatewayOn(login, options).pipe(Layer.provideMerge(TestDatabase.layer))

export const mailOptions = ({ port }: TestMail): MailOptions => ({
  host: "127.0.0.1",
  port,
  security: "none",
  from: "Green Test <noreply@green.test>"
})

/** Runs a test with a mail server and a gateway that uses it. */
export const withMail = <A, E>(
  login: LoginOptions,
  use: (mail: TestMail) => Effect.Effect<A, E, Layer.Success<ReturnType<typeof loginGateway>>>
) =>
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

/** The status and the errcode of an answer. */
export const outcome = ({ body, status }: { readonly status: number; readonly body: { readonly errcode?: string } }) =>
  `${status} ${body?.errcode ?? ""}`.trim()
