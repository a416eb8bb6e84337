/**
 * The caller of the federation API: a home server, proved by the signature of its request.
 *
 * The gateway's implementation of `OriginAuthentication` checks the signature and reads the body, which is signed too;
 * the handler finds both in `SignedRequest`.
 *
 * Source: "Security" of the draft, "Request Authentication" of the server-server specification.
 */
import { Context } from "effect"
import { HttpApiMiddleware } from "effect/http-api"
import { wireErrors } from "../api/WireError.ts"
import type { ServerName } from "../Identifiers.ts"
import type { Json } from "../Json.ts"
import { WireErrorClass, wire } from "../WireErrorClass.ts"

export class Unauthorized extends WireErrorClass<Unauthorized>()(
  "M_UNAUTHORIZED",
  401,
  "The request has no signature of the server that it says to be from, or is meant for another server"
) {}

/** A request whose signature is right. */
export interface AuthenticatedRequest {
  /** The server that signed it. */
  readonly origin: ServerName
  /** The body; undefined if there is none. */
  readonly content: Json | undefined
}

/** The request that is being answered. */
export class SignedRequest extends Context.Service<SignedRequest, AuthenticatedRequest>()(
  "greenroom/protocol/SignedRequest"
) {}

/** Accepts requests that a server has signed for this one. Errors: M_UNAUTHORIZED, M_NOT_JSON, M_TOO_LARGE, M_LIMIT_EXCEEDED. */
export class OriginAuthentication extends HttpApiMiddleware.Service<
  OriginAuthentication,
  { provides: SignedRequest }
>()("greenroom/protocol/OriginAuthentication", {
  error: [...wireErrors, wire(Unauthorized)]
}) {}
