/**
 * Where people and OAuth2 providers find this server: what the operator says, else where it listens. The `Host` header
 * of a request is no answer, for the client chooses it.
 */
import { Context, Layer } from "effect"

export class PublicUrl extends Context.Service<
  PublicUrl,
  {
    /** `https://example.org`, without a slash at the end. */
    readonly get: () => string
    /** Where the gateway listens; set once it does. */
    readonly listening: (url: string) => void
  }
>()("greenroom/gateway/PublicUrl") {
  static readonly layer = (configured: string | undefined): Layer.Layer<PublicUrl> =>
    Layer.sync(PublicUrl, () => {
      let url = configured?.replace(/\/+$/, "") ?? ""
      return PublicUrl.of({
        get: () => url,
        listening: (listened) => {
          if (configured === undefined) url = listened
        }
      })
    })
}
