/**
 * The paths of the API, for the error of a request that reached no endpoint: the path is unknown, the method is wrong, or the path
 * is not percent-encoded UTF-8.
 */
import { BadRequest, Unrecognized } from "@greenroom/protocol/MatrixError"
import { FindMyWay, HttpServerResponse } from "effect/http"
import type { HttpApi } from "effect/http-api"
import { errorResponse, type KnownPaths } from "./MatrixHttp.ts"
import { pathOf } from "./RequestPath.ts"

/** Identifiers are up to 255 bytes; the endpoint refuses longer ones by name. */
export const routerConfig: Partial<FindMyWay.RouterConfig> = { caseSensitive: true, maxParamLength: 16_384 }

const methods = ["GET", "POST", "PUT", "DELETE"] as const

const isEncoded = (path: string): boolean => {
  try {
    decodeURIComponent(path)
    return true
  } catch {
    return false
  }
}

/** The paths of the APIs, and `others` that are read by GET. */
export const knownPaths = (apis: ReadonlyArray<HttpApi.Top>, others: ReadonlyArray<`/${string}`>): KnownPaths => {
  const router = FindMyWay.make<true>(routerConfig)
  for (const group of apis.flatMap((api) => Object.values(api.groups))) {
    for (const endpoint of Object.values(group.endpoints))
      router.on(endpoint.method, endpoint.path as `/${string}`, true)
  }
  for (const path of others) router.on("GET", path, true)
  return {
    notFound: ({ method, url }) => {
      if (!isEncoded(pathOf(url))) {
        return errorResponse(new BadRequest({ error: "The path is not percent-encoded UTF-8" }))
      }
      const allowed = methods.filter((candidate) => router.find(candidate, url) !== undefined)
      if (allowed.length === 0) return errorResponse(new Unrecognized({ error: "There is no such endpoint" }))
      return HttpServerResponse.setHeader(
        errorResponse(new Unrecognized({ error: `This endpoint does not accept the method ${method}` }), 405),
        "allow",
        allowed.join(", ")
      )
    }
  }
}
