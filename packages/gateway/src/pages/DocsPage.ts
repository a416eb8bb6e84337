/**
 * The documentation of an API as a page that loads nothing from elsewhere. Its renderer has more than 7 MB, so it is loaded
 * when the page is requested.
 */
import { Effect, Scope } from "effect"
import { HttpRouter } from "effect/http"
import type { HttpApi, HttpApiGroup } from "effect/http-api"

/** Serves the page at `path`. */
export const docsPage = <Id extends string, Groups extends HttpApiGroup.Constraint>(
  api: HttpApi.HttpApi<Id, Groups>,
  path: `/${string}`
) =>
  HttpRouter.use((router) =>
    Effect.gen(function* () {
      const scope = yield* Effect.scope
      const page = yield* Effect.cached(
        Effect.promise(() => import("effect/http-api/HttpApiSwagger")).pipe(
          Effect.flatMap(({ layer }) => HttpRouter.toHttpEffect(layer(api, { path }))),
          Scope.provide(scope)
        )
      )
      yield* router.add("GET", path, Effect.flatten(page))
    })
  )
