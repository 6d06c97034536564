/* SPDX-License-Identifier: Apache-2.0 */
/* simdjson_decode.cpp - an event by simdjson on demand: each member is looked at once, in the order of the text. */
#include "simdjson_decode.h"
#include <simdjson.h>

struct rival_simdjson {
        simdjson::ondemand::parser parser;
};

struct rival_simdjson *rival_simdjson_new(void)
{
        return new rival_simdjson;
}

template <typename Length>
static bool take_text(simdjson::ondemand::value value, const char **text, Length *len)
{
        std::string_view view;

        if (value.get_string().get(view) != simdjson::SUCCESS)
                return false;
        *text = view.data();
        *len = static_cast<Length>(view.size());
        return true;
}

static bool take_member(simdjson::ondemand::field &field, struct event *event)
{
        std::string_view key;
        simdjson::ondemand::value value = field.value();

        if (field.unescaped_key().get(key) != simdjson::SUCCESS)
                return false;
        if (key == "type")
                return take_text(value, &event->type, &event->type_len);
        if (key == "actor")
                return take_text(value, &event->actor, &event->actor_len);
        if (key == "target")
                return take_text(value, &event->target, &event->target_len);
        if (key == "actor_followers")
                return value.get_int64().get(event->followers) == simdjson::SUCCESS;
        if (key == "ts")
                return value.get_int64().get(event->ts_ms) == simdjson::SUCCESS;
        if (key == "undo")
                return value.get_bool().get(event->undo) == simdjson::SUCCESS;
        return true;
}

bool rival_simdjson_decode(struct rival_simdjson *rival, const char *text, size_t len,
                           struct event *ret_event)
{
        simdjson::ondemand::document document;
        simdjson::ondemand::object object;

        *ret_event = {};
        if (rival->parser.iterate(text, len, len + simdjson::SIMDJSON_PADDING).get(document) !=
                    simdjson::SUCCESS ||
            document.get_object().get(object) != simdjson::SUCCESS)
                return false;
        for (auto member : object) {
                simdjson::ondemand::field field;

                if (std::move(member).get(field) != simdjson::SUCCESS || !take_member(field, ret_event))
                        return false;
        }
        return true;
}
