/**
 * Validation sessions over HTTP: sends the messages, and shows the pages of links in mails.
 *
 * Source: "Identity" of the draft.
 */
import { IdentityApi, laterIdentityPrefix } from "@greenroom/protocol/identity/IdentityApi"
import { InvalidAddress, MediumNotSupported } from "@greenroom/protocol/identity/IdentityError"
import { isNextLink } from "@greenroom/protocol/identity/NextLink"
import { canonicalEmail, type ThirdPartyId } from "@greenroom/protocol/identity/ThirdPartyId"
import type { SubmitToken } from "@greenroom/protocol/identity/ValidationApi"
import { BadJson } from "@greenroom/protocol/MatrixError"
import { Effect, Option } from "effect"
import { HttpApiBuilder } from "effect/http-api"
import { IdentityOptions } from "../IdentityOptions.ts"
import { MailSender } from "../MailSender.ts"
import { canonicalMsisdn } from "../PhoneNumber.ts"
import { Requests } from "../Requests.ts"
import { SmsSender } from "../SmsSender.ts"
import { Templates } from "../Templates.ts"
import { type Invitation, ValidationSessions } from "../ValidationSessions.ts"
import { askPage, confirmedPage, refusedPage } from "./Pages.ts"

const checkNextLink = (link: string | undefined): Effect.Effect<void, BadJson> =>
  link === undefined || isNextLink(link)
    ? Effect.void
    : Effect.fail(new BadJson({ error: "next_link: expected a URL with http or https" }))

const requireAddress = (address: string | undefined, what: string): Effect.Effect<string, InvalidAddress> =>
  address === undefined ? Effect.fail(new InvalidAddress({ error: `Not ${what}` })) : Effect.succeed(address)

/** The sender of a medium, if one is configured. */
const requireSender = <A>(sender: Option.Option<A>, what: string): Effect.Effect<A, MediumNotSupported> =>
  Option.match(sender, {
    onNone: () => Effect.fail(new MediumNotSupported({ error: `This server sends no ${what}` })),
    onSome: Effect.succeed
  })

const toQuery = ({ client_secret, sid, token }: SubmitToken): URLSearchParams =>
  new URLSearchParams({ sid, client_secret, token })

export const validationHandlers = HttpApiBuilder.group(IdentityApi, "validation", (handlers) =>
  Effect.gen(function* () {
    const sessions = yield* ValidationSessions
    const requests = yield* Requests
    const templates = yield* Templates
    const mail = yield* MailSender
    const sms = yield* SmsSender
    const { publicUrl, serverName } = yield* IdentityOptions

    const linkFor = ({ sid, token }: Invitation, clientSecret: string) =>
      `${publicUrl}${laterIdentityPrefix}/validate/email/submitToken?${toQuery({ sid, client_secret: clientSecret, token })}`

    const toMail = (address: string, link: string) => {
      const values = { address, link, server_name: serverName }
      return {
        to: address,
        subject: templates.render("validation.subject.txt", values),
        text: templates.render("validation.txt", values),
        html: templates.render("validation.html", values)
      }
    }

    return handlers
      .handle("requestEmailToken", ({ payload, request }) =>
        Effect.gen(function* () {
          const send = yield* requireSender(mail, "mails")
          const address = yield* requireAddress(canonicalEmail(payload.email), "an email address")
          yield* checkNextLink(payload.next_link)
          yield* requests.take("messages", request)
          const thirdPartyId: ThirdPartyId = { medium: "email", address }
          const sid = yield* sessions.begin(
            {
              thirdPartyId,
              clientSecret: payload.client_secret,
              sendAttempt: payload.send_attempt,
              nextLink: payload.next_link
            },
            (invitation) => send(toMail(address, linkFor(invitation, payload.client_secret)))
          )
          return { sid }
        })
      )
      .handle("requestMsisdnToken", ({ payload, request }) =>
        Effect.gen(function* () {
          const send = yield* requireSender(sms, "text messages")
          const number = canonicalMsisdn(payload.phone_number, payload.country)
          const address = yield* requireAddress(number, "a phone number")
          yield* checkNextLink(payload.next_link)
          yield* requests.take("messages", request)
          const thirdPartyId: ThirdPartyId = { medium: "msisdn", address }
          const sid = yield* sessions.begin(
            {
              thirdPartyId,
              clientSecret: payload.client_secret,
              sendAttempt: payload.send_attempt,
              nextLink: payload.next_link
            },
            ({ token }) =>
              send({
                to: `+${address}`,
                text: templates.render("code.txt", { code: token, server_name: serverName }).trim()
              })
          )
          return { sid, msisdn: address }
        })
      )
      .handle("submitToken", ({ params, payload, request }) =>
        Effect.gen(function* () {
          yield* requests.take("tries", request)
          yield* sessions.submit(params.medium, payload, payload.token)
          return { success: true }
        })
      )
      .handle("confirmationPage", ({ query }) => Effect.succeed(askPage(toQuery(query))))
      .handle("confirm", ({ params, query, request }) =>
        Effect.gen(function* () {
          yield* requests.take("tries", request)
          return yield* sessions.submit(params.medium, query, query.token).pipe(
            Effect.match({
              onSuccess: confirmedPage,
              onFailure: ({ error }) => refusedPage(error)
            })
          )
        })
      )
  })
)
