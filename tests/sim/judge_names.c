/* SPDX-License-Identifier: Apache-2.0 */
/* judge_names.c - who is an account, and whose is a key?
 *
 * Accounts are numbers here; their names, hashes and salted hashes are made once a process, together with the
 * configuration, the policy and the salt that every node has.  A key's tag is its account's number, or one of TAG_...
 * (judge_internal.h), for a partition's key plus the partition's number. */
#include "judge_internal.h"
#include <openssl/hmac.h>
#include <openssl/params.h>
#include <unistd.h>

#define SALT "a salt that only tests have"

char names[ACCOUNTS][ACCOUNT_ID_MAX + 1];
uint64_t hashes[ACCOUNTS];
uint8_t salted[ACCOUNTS][SALTED_LEN], acts_salted[ACCOUNTS][SALTED_LEN];

const char *judge_name(int account)
{
        return names[account];
}

uint64_t judge_hash(int account)
{
        return hashes[account];
}

int account_of_name(const char *name, size_t len)
{
        for (int a = 0; a < ACCOUNTS; a++)
                if (strlen(names[a]) == len && memcmp(names[a], name, len) == 0)
                        return a;
        return -1;
}

static bool starts(const char **name, size_t *len, const char *with)
{
        const size_t n = strlen(with);

        if (*len < n || memcmp(*name, with, n) != 0)
                return false;
        *name += n;
        *len -= n;
        return true;
}

int judge_tag(const char *name, size_t len)
{
        if (starts(&name, &len, "clout:a:"))
                return account_of_name(name, len);
        if (starts(&name, &len, "clout:own:t:"))
                return TAG_OWN + name[0] - '0';
        if (starts(&name, &len, "clout:gone:t:"))
                return TAG_GONE + name[0] - '0';
        if (starts(&name, &len, "clout:optout:t:"))
                return TAG_OPTOUT + name[0] - '0';
        if (starts(&name, &len, "clout:top:"))
                return TAG_TOP;
        if (starts(&name, &len, "clout:due:"))
                return TAG_DUE;
        return -1;
}

const struct key *key_of(const struct server *server, const char *kind, const char *name)
{
        char key[300], *end = key; /* not by snprintf(): asked for all the time */

        end = mempcpy(end, "clout:", 6);
        end = mempcpy(end, kind, strlen(kind));
        end = mempcpy(end, name, strlen(name));
        return server_key(server, key, (size_t)(end - key));
}

const struct key *key_of_partition(const struct server *server, const char *kind, int p)
{
        const char digit[2] = {(char)('0' + p), '\0'};

        return key_of(server, kind, digit);
}

static void write_file(const char *folder, const char *name, const char *text)
{
        char path[200];
        FILE *file;

        (void)snprintf(path, sizeof path, "%s/%s", folder, name);
        file = fopen(path, "w");
        CHECK(file != NULL && fputs(text, file) >= 0 && fclose(file) == 0);
}

static _Noreturn void cannot_begin(const struct errmsg *errmsg)
{
        (void)fprintf(stderr, "%s\n", errmsg->text);
        exit(1);
}

/* As daemon/salt.c says, by OpenSSL's SipHash. */
static void make_acts_salted(void)
{
        static const char purpose[] = "\nacts of who left";
        EVP_MAC *mac = EVP_MAC_fetch(NULL, "SIPHASH", NULL);
        EVP_MAC_CTX *ctx = EVP_MAC_CTX_new(mac);
        size_t size = SALTED_LEN;
        const OSSL_PARAM params[] = {OSSL_PARAM_construct_size_t("size", &size), OSSL_PARAM_construct_end()};
        uint8_t key[64];
        unsigned len = 0;

        CHECK(ctx != NULL && HMAC(EVP_sha256(), SALT, (int)strlen(SALT), (const unsigned char *)purpose,
                                  sizeof purpose - 1, key, &len) != NULL);
        for (int a = 0; a < ACCOUNTS; a++)
                CHECK(EVP_MAC_init(ctx, key, 16, params) == 1 &&
                      EVP_MAC_update(ctx, (const unsigned char *)names[a], strlen(names[a])) == 1 &&
                      EVP_MAC_final(ctx, acts_salted[a], &size, SALTED_LEN) == 1);
        EVP_MAC_CTX_free(ctx);
        EVP_MAC_free(mac);
}

void judge_init(struct world *world)
{
        static const char *const files[] = {"policy.yaml", "salt", "cloutd.yaml"};
        static const int retweets[TABLES] = {10, 7};
        char folder[] = "/tmp/cloutd-sim-XXXXXX", text[1024], path[200];
        struct errmsg errmsg = {""};

        CHECK(mkdtemp(folder) != NULL);
        write_file(folder, "salt", SALT);
        write_file(folder, "cloutd.yaml",
                   "kafka: {brokers: '127.0.0.1:1', topic: t, group: g}\nredis: {address: 'unix:/nowhere'}\n"
                   "policy: policy.yaml\nlanes: 1\nhttp: ''\noptout_salt_file: salt\n"
                   "windows: [{length: 2h, bucket: 1h}, {length: 4h, bucket: 2h}]\nheadline: 4h\n");
        (void)snprintf(path, sizeof path, "%s/cloutd.yaml", folder);
        if (conf_load(path, &world->conf, &errmsg) != CLOUTD_OK)
                cannot_begin(&errmsg);
        for (int t = 0; t < TABLES; t++) {
                (void)snprintf(text, sizeof text, STORY_POLICY, retweets[t]);
                write_file(folder, "policy.yaml", text);
                if (policy_load(world->conf->policy_path, world->conf, &world->policies[t], &errmsg) !=
                    CLOUTD_OK)
                        cannot_begin(&errmsg);
        }
        for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
                (void)snprintf(path, sizeof path, "%s/%s", folder, files[i]);
                (void)unlink(path);
        }
        (void)rmdir(folder);
        for (int a = 0; a < ACCOUNTS; a++) {
                uint8_t digest[64];
                unsigned len = 0;

                (void)snprintf(names[a], sizeof names[a],
                               a % 4 == 3 ? "somebody with a name of many words, number %02d" : "ann%02d", a);
                hashes[a] = account_hash(names[a], strlen(names[a]));
                CHECK(HMAC(EVP_sha256(), SALT, (int)strlen(SALT), (const unsigned char *)names[a],
                           strlen(names[a]), digest, &len) != NULL);
                memcpy(salted[a], digest, SALTED_LEN);
        }
        make_acts_salted();
        for (int n = 0; n < NODES; n++) {
                world->nodes[n].telemetry = telemetry_new(world->conf, 1, PARTITIONS);
                CHECK(world->nodes[n].telemetry != NULL);
        }
}
