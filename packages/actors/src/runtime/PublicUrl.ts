/**
 * The public address of this server for people and OAuth2 providers: the configured one, else the address on which it
 * listens. The `Host` header of a request is no answer, for the client chooses it. The gateway sets it when it listens.
 */
import { Context, Layer } from "effect"

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
