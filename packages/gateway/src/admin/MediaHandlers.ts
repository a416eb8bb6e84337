/**
 * Content, as calls of `MediaKeeping` and `MediaAdministration`.
 *
 * Source: "Media Admin API" of Synapse's documentation.
 */
import { MediaAdministration } from "@greenroom/actors/admin/MediaAdministration"
import { MediaKeeping } from "@greenroom/actors/media/MediaKeeping"
import { HomeServerConfig } from "@greenroom/actors/runtime/HomeServerConfig"
import { SynapseAdminApi } from "@greenroom/protocol/admin/SynapseAdminApi"
import type { ServerName } from "@greenroom/protocol/Identifiers"
import { Context, Effect, Order } from "effect"
import { HttpApiBuilder } from "effect/http-api"
import { withServices } from "../client-api/EndpointServices.ts"
import { makeAdminActions } from "./AdminAction.ts"

type Row = Effect.Success<ReturnType<MediaAdministration["Service"]["find"]>>

export const toMedia = (row: Row) => ({
  media_id: row.mediaId,
  media_origin: row.origin,
  media_type: row.content?.contentType ?? null,
  media_length: row.content?.size ?? null,
  upload_name: row.content?.fileName ?? null,
  user_id: row.userId ?? null,
  created_ts: row.createdAt,
  last_access_ts: row.lastUsedAt,
  quarantined_by: row.quarantinedBy ?? null,
  safe_from_quarantine: row.isProtected
})

export const byMediaId = Order.mapInput(Order.String, (row: Row) => row.mediaId)

/** The orders of uploads, by Synapse's names. */
export const mediaOrders = {
  media_id: byMediaId,
  upload_name: Order.mapInput(Order.String, ({ content }: Row) => content?.fileName ?? ""),
  created_ts: Order.mapInput(Order.Number, (row: Row) => row.createdAt),
  last_access_ts: Order.mapInput(Order.Number, (row: Row) => row.lastUsedAt),
  media_length: Order.mapInput(Order.Number, ({ content }: Row) => content?.size ?? 0),
  media_type: Order.mapInput(Order.String, ({ content }: Row) => content?.contentType ?? ""),
  quarantined_by: Order.mapInput(Order.String, (row: Row) => row.quarantinedBy ?? ""),
  safe_from_quarantine: Order.mapInput(Order.Boolean, (row: Row) => row.isProtected)
}

const nameOf = ({ mediaId, serverName }: { readonly serverName: ServerName; readonly mediaId: string }) => ({
  origin: serverName,
  mediaId
})

const uriOf = (params: { readonly serverName: ServerName; readonly mediaId: string }) =>
  `mxc://${params.serverName}/${params.mediaId}`

export const mediaHandlers = HttpApiBuilder.group(SynapseAdminApi, "synapseAdmin.media", (handlers) =>
  withServices(function* () {
    const { asAdmin, services } = yield* makeAdminActions
    const keeping = yield* MediaKeeping
    const media = Context.get(services, MediaAdministration)
    const { serverName } = yield* HomeServerConfig
    const protect = (mediaId: string, isProtected: boolean) =>
      asAdmin(
        { action: isProtected ? "media.protect" : "media.unprotect", target: uriOf({ serverName, mediaId }) },
        () => Effect.as(keeping.protect(nameOf({ serverName, mediaId }), isProtected), {})
      )
    return handlers
      .handle("get", ({ params }) =>
        asAdmin({ action: "media.show", target: uriOf(params) }, () =>
          Effect.map(media.find(nameOf(params)), (row) => ({ media_info: toMedia(row) }))
        )
      )
      .handle("quarantine", ({ params }) =>
        asAdmin({ action: "media.quarantine", target: uriOf(params) }, (admin) =>
          Effect.as(keeping.quarantine(nameOf(params), admin), {})
        )
      )
      .handle("release", ({ params }) =>
        asAdmin({ action: "media.release", target: uriOf(params) }, () =>
          Effect.as(keeping.release(nameOf(params)), {})
        )
      )
      .handle("protect", ({ params: { mediaId } }) => protect(mediaId, true))
      .handle("unprotect", ({ params: { mediaId } }) => protect(mediaId, false))
      .handle("quarantineOfUser", ({ params: { userId } }) =>
        asAdmin({ action: "media.quarantine_user", target: userId }, (admin) =>
          Effect.map(media.quarantineUser(userId, admin), (num_quarantined) => ({ num_quarantined }))
        )
      )
      .handle("delete", ({ params }) =>
        asAdmin({ action: "media.delete", target: uriOf(params) }, () =>
          Effect.as(keeping.remove(nameOf(params)), { deleted_media: [params.mediaId], total: 1 })
        )
      )
      .handle("deleteOld", ({ query: { before_ts, size_gt } }) =>
        asAdmin({ action: "media.delete_old", details: { before_ts, size_gt } }, () =>
          Effect.map(media.removeLocal(before_ts, size_gt === undefined ? 0 : size_gt + 1), (total) => ({ total }))
        )
      )
      .handle("purgeRemote", ({ query: { before_ts } }) =>
        asAdmin({ action: "media.purge_remote", details: { before_ts } }, () =>
          Effect.map(media.removeRemote(before_ts), (deleted) => ({ deleted }))
        )
      )
  })
)
