/**
 * The content of m.room.message: the required and optional keys of each msgtype.
 *
 * Keys that are not named here are kept; other msgtypes need no further keys.
 *
 * Source: "m.room.message msgtypes" of the draft.
 */
import { Schema } from "effect"
import { Integer } from "./Json.ts"

const count = Schema.optionalKey(Integer)
const text = Schema.optionalKey(Schema.String)

/** Information about an image: bytes, pixels, MIME type. */
export const ImageInfo = Schema.Struct({
  size: count,
  w: count,
  h: count,
  mimetype: text
})
export type ImageInfo = typeof ImageInfo.Type

/** Information about a piece of audio: MIME type, bytes, milliseconds. */
export const AudioInfo = Schema.Struct({ mimetype: text, size: count, duration: count })
export type AudioInfo = typeof AudioInfo.Type

/** Information about a video. `thumbanil_info` is the draft's spelling of `thumbnail_info`. */
export const VideoInfo = Schema.Struct({
  mimetype: text,
  size: count,
  duration: count,
  w: count,
  h: count,
  thumbnail_url: text,
  thumbnail_info: Schema.optionalKey(ImageInfo),
  thumbanil_info: Schema.optionalKey(Schema.Unknown)
})
export type VideoInfo = typeof VideoInfo.Type

/** Milliseconds since 1970 by the client's clock, which any message may carry. */
const sender_ts = count

const message = <const MsgType extends string, const Fields extends Schema.Struct.Fields>(
  msgtype: MsgType,
  fields: Fields
) => Schema.Struct({ msgtype: Schema.Literal(msgtype), ...fields, sender_ts })

/** A file that is encrypted has its URL in `file` (`EncryptedFile`), and no `url` beside it. */
const media = <const MsgType extends string, const Fields extends Schema.Struct.Fields>(
  msgtype: MsgType,
  fields: Fields
) =>
  message(msgtype, { url: text, file: Schema.optionalKey(Schema.Struct({ url: Schema.String })), ...fields }).check(
    Schema.makeFilter<{ readonly url?: string; readonly file?: object }>(
      ({ file, url }) => url !== undefined || file !== undefined || { path: ["url"], issue: "Missing key" }
    )
  )

const thumbnail = { thumbnail_url: text, thumbnail_info: Schema.optionalKey(ImageInfo) }

/** m.text: `body` is the text. */
export const TextMessage = message("m.text", { body: Schema.String })
export type TextMessage = typeof TextMessage.Type

/** `body` is what the sender does. */
export const EmoteMessage = message("m.emote", { body: Schema.String })
export type EmoteMessage = typeof EmoteMessage.Type

/** `body` is the alternative text. */
export const ImageMessage = media("m.image", {
  info: Schema.optionalKey(ImageInfo),
  ...thumbnail,
  body: text
})
export type ImageMessage = typeof ImageMessage.Type

/** m.audio: `body` is the alternative text. */
export const AudioMessage = media("m.audio", {
  info: Schema.optionalKey(AudioInfo),
  body: text
})
export type AudioMessage = typeof AudioMessage.Type

/** m.video: `body` is the alternative text. */
export const VideoMessage = media("m.video", {
  info: Schema.optionalKey(VideoInfo),
  body: text
})
export type VideoMessage = typeof VideoMessage.Type

/** `geo_uri` is a geo URI, RFC 5870. */
export const LocationMessage = message("m.location", { geo_uri: Schema.String, ...thumbnail, body: text })
export type LocationMessage = typeof LocationMessage.Type

/** A message of a type that the draft does not name. */
export const OtherMessage = Schema.Struct({ msgtype: Schema.String, sender_ts })
export type OtherMessage = typeof OtherMessage.Type

/** The messages of the draft, by msgtype. */
export const messageTypes = {
  "m.text": TextMessage,
  "m.emote": EmoteMessage,
  "m.image": ImageMessage,
  "m.audio": AudioMessage,
  "m.video": VideoMessage,
  "m.location": LocationMessage
} as const

/** The content of an m.room.message that the draft names. */
export type MessageContent = {
  [K in keyof typeof messageTypes]: (typeof messageTypes)[K]["Type"]
}[keyof typeof messageTypes]
