/**
 * The endpoint of policy servers as a call of `PolicyServer`.
 *
 * Source: "Policy servers" of the server-server specification.
 */
import { PolicyServer } from "@greenroom/actors/federation/PolicyServer"
import { HomeServerConfig } from "@greenroom/actors/runtime/HomeServerConfig"
import { SignedRequest } from "@greenroom/protocol/federation/OriginAuthentication"
import { ServerServerApi } from "@greenroom/protocol/server-server/ServerServerApi"
import { Effect } from "effect"
import { HttpServerResponse } from "effect/http"
import { HttpApiBuilder } from "effect/http-api"
import { objectOf } from "../federation/FederationHandlers.ts"
import { errorResponse } from "../MatrixHttp.ts"

export const policyFederationHandlers = HttpApiBuilder.group(ServerServerApi, "serverServer.policy", (handlers) =>
  Effect.gen(function* () {
    const { serverName } = yield* HomeServerConfig
    const policy = yield* PolicyServer
    return handlers.handleRaw("sign", () =>
      SignedRequest.use(({ content }) =>
        Effect.flatMap(objectOf(content), (pdu) => policy.sign(pdu)).pipe(
          Effect.map((signatures) => HttpServerResponse.jsonUnsafe({ [serverName]: signatures })),
          // 403 is for servers that m.room.server_acl excludes.
          Effect.catchTag("M_FORBIDDEN", (refusal) => Effect.succeed(errorResponse(refusal, 400)))
        )
      )
    )
  })
)
