/**
 * The URL of this server for people and OAuth2 providers: the configured one, else the address on which it listens, which the
 * gateway sets. The `Host` header of a request is not used, since the client chooses it.
 */
import { Context, Layer } from "effect"

/** The URL at which people and providers reach this server. */
export class PublicUrl extends Context.Service<
  PublicUrl,
  {
    /** `https://example.org`, without a slash at the end. Empty until a gateway listens. */
    readonly get: () => string
    readonly set: (url: string) => void
  }
>()("greenroom/actors/PublicUrl") {
  static readonly layer: Layer.Layer<PublicUrl> = Layer.sync(PublicUrl, () => {
    let url = ""
    return PublicUrl.of({ get: () => url, set: (given) => (url = given.replace(/\/+$/, "")) })
  })
}
