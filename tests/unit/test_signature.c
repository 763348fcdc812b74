/*
 * Signatures of folders: what is signed verifies, and nothing that was changed does; statements
 * with tricks in them, signed by a trusted key all the same; keys that must not be taken; what
 * other tools have signed, from tests/fixtures/model_signing.
 */
#include "core/base/base64.h"
#include "core/base/stop.h"
#include "core/formats/dsse.h"
#include "core/formats/signature.h"
#include "tests/support/keys.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#define FIXTURES "tests/fixtures/model_signing"

static char root[FILE_PATH_BYTES];

static const char *at(const char *name)
{
    static char paths[8][FILE_PATH_BYTES];
    static int next;
    char *path = paths[next++ % 8];
    assert_int_equal(file_join(path, root, name), OK);
    return path;
}

static void assert_says(Status found, Status wanted, const char *text)
{
    if (found != wanted || !strstr(status_message(), text))
        fail_msg("status %d (%s), expected %d with \"%s\"", found, status_message(), wanted, text);
}

static void write_text(const char *path, const char *text)
{
    assert_int_equal(file_write(path, text, strlen(text)), OK);
}

static char *read_text(const char *path, size_t *length)
{
    char *text = NULL;
    assert_int_equal(file_read(path, 1 << 20, &text, length), OK);
    return text;
}

/* Keys "a" and "b" on P-256, "c" on P-384, "d" on P-521. */
static int set_up(void **state)
{
    (void)state;
    static const TestKey kinds[] = { TEST_KEY_P256, TEST_KEY_P256, TEST_KEY_P384, TEST_KEY_P521 };
    const char *base = getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp";
    (void)snprintf(root, sizeof root, "%s/test_signature.XXXXXX", base);
    if (!mkdtemp(root)) return -1;
    for (int i = 0; i < 4; i++) {
        char name[16], pub[16];
        (void)snprintf(name, sizeof name, "%c.pem", "abcd"[i]);
        (void)snprintf(pub, sizeof pub, "%c.pub", "abcd"[i]);
        test_key_make(kinds[i], at(name), at(pub));
    }
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    return file_remove_tree(root) == OK ? 0 : -1;
}

/* The keys named by letters, "ab": a.pub and b.pub. */
static TrustedKeys trust(const char *letters)
{
    TrustedKeys keys;
    const char *paths[4];
    char name[16];
    for (int i = 0; letters[i]; i++) {
        (void)snprintf(name, sizeof name, "%c.pub", letters[i]);
        paths[i] = at(name);
    }
    assert_int_equal(trusted_keys_read(paths, (int)strlen(letters), &keys), OK);
    return keys;
}

static EcdsaKey *private_key(const char *name)
{
    EcdsaKey *key;
    assert_int_equal(ecdsa_read_private(at(name), &key), OK);
    return key;
}

static const char *const files[] = { "config.json", "transformer/a.safetensors",
                                     "transformer/b.safetensors", "transformer_ema/x" };
enum { FILES = sizeof files / sizeof files[0] };

/* A folder of four files and a manifest, signed with that key; whatever was there is gone. */
static void make_signed(const char *name, const char *key_name)
{
    Manifest manifest;
    EcdsaKey *key = private_key(key_name);
    char path[FILE_PATH_BYTES];
    assert_int_equal(file_remove_tree(at(name)), OK);
    assert_int_equal(file_join(path, at(name), "transformer"), OK);
    assert_int_equal(file_make_folders(path), OK);
    assert_int_equal(file_join(path, at(name), "transformer_ema"), OK);
    assert_int_equal(file_make_folders(path), OK);
    for (int i = 0; i < FILES; i++) {
        assert_int_equal(file_join(path, at(name), files[i]), OK);
        write_text(path, files[i]);
    }
    assert_int_equal(manifest_make(at(name), NULL, &manifest), OK);
    assert_int_equal(manifest_write(at(name), &manifest), OK);
    assert_int_equal(signature_write(at(name), "a model", &manifest, key), OK);
    manifest_destroy(&manifest);
    ecdsa_destroy(key);
}

static Status verify(const char *folder, const char *letters)
{
    TrustedKeys keys = trust(letters);
    const Status s = signature_verify_share(at(folder), &keys, 0, 1);
    trusted_keys_destroy(&keys);
    return s;
}

/* --- base64 --- */

static void base64_is_that_of_rfc_4648(void **state)
{
    (void)state;
    static const char *const rows[][2] = { { "", "" },
                                           { "f", "Zg==" },
                                           { "fo", "Zm8=" },
                                           { "foo", "Zm9v" },
                                           { "foob", "Zm9vYg==" },
                                           { "fooba", "Zm9vYmE=" },
                                           { "foobar", "Zm9vYmFy" },
                                           { "\xfb\xff\xfe", "+//+" } };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char *text;
        uint8_t *bytes;
        size_t length;
        assert_int_equal(base64_encode(rows[i][0], strlen(rows[i][0]), &text), OK);
        assert_string_equal(text, rows[i][1]);
        assert_int_equal(base64_decode(text, "t", &bytes, &length), OK);
        assert_int_equal(length, strlen(rows[i][0]));
        assert_string_equal((char *)bytes, rows[i][0]);
        free(bytes);
        free(text);
    }
}

static void base64_has_one_text_for_each_sequence_of_bytes(void **state)
{
    (void)state;
    static const char *const rows[] = {
        "Z",    "Zg",     "Zg=",  "Zg===", "=",    "==",   "====",     "Z===",     "Zh==",
        "Zm9=", "Zm9v\n", " Zm9", "Zm-v",  "Zm_v", "Z=9v", "Zg==Zg==", "Zm9vZg=a", "Zm\xc3\xa9"
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        uint8_t *bytes;
        size_t length;
        assert_says(base64_decode(rows[i], "t", &bytes, &length), ERR_FORMAT, "is not base64");
    }
}

/* --- keys --- */

static void a_key_that_cannot_sign_is_refused_with_the_remedy(void **state)
{
    (void)state;
    EcdsaKey *key = NULL;
    test_key_make(TEST_KEY_RSA, at("rsa.pem"), at("rsa.pub"));
    test_key_make(TEST_KEY_ED25519, at("ed.pem"), at("ed.pub"));
    test_key_make(TEST_KEY_SECP256K1, at("k1.pem"), at("k1.pub"));
    test_key_make(TEST_KEY_ENCRYPTED, at("locked.pem"), at("locked.pub"));
    write_text(at("empty.pem"), "");
    write_text(at("noise.pem"), "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n");
    static const struct {
        const char *file, *says;
    } rows[] = { { "rsa.pem", "P-256, P-384 or P-521" },  { "ed.pem", "P-256, P-384 or P-521" },
                 { "k1.pem", "P-256, P-384 or P-521" },   { "locked.pem", "needs a passphrase" },
                 { "empty.pem", "holds no private key" }, { "noise.pem", "holds no private key" } };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        assert_int_equal(chmod(at(rows[i].file), 0600), 0);
        assert_says(ecdsa_read_private(at(rows[i].file), &key), ERR_FORMAT, rows[i].says);
    }
    assert_int_equal(chmod(at("a.pub"), 0600), 0);
    assert_says(ecdsa_read_private(at("a.pub"), &key), ERR_FORMAT, "but a public one");
    assert_says(ecdsa_read_private(at("absent.pem"), &key), ERR_IO, "absent.pem");
    assert_says(ecdsa_read_private(root, &key), ERR_FORMAT, "is not a file");
    assert_null(key);
}

static void a_private_key_must_be_its_owners_alone(void **state)
{
    (void)state;
    EcdsaKey *key = NULL;
    static const mode_t modes[] = { 0640, 0604, 0660, 0610, 0602 };
    test_key_make(TEST_KEY_P256, at("open.pem"), at("open.pub"));
    for (size_t i = 0; i < sizeof modes / sizeof modes[0]; i++) {
        assert_int_equal(chmod(at("open.pem"), modes[i]), 0);
        assert_says(ecdsa_read_private(at("open.pem"), &key), ERR_FORMAT, "chmod 600");
    }
    assert_int_equal(chmod(at("open.pem"), 0400), 0);
    assert_int_equal(ecdsa_read_private(at("open.pem"), &key), OK);
    ecdsa_destroy(key);
}

static void a_pipe_in_place_of_a_key_does_not_hold_the_start(void **state)
{
    (void)state;
    EcdsaKey *key = NULL;
    assert_int_equal(mkfifo(at("pipe.pem"), 0600), 0);
    assert_says(ecdsa_read_private(at("pipe.pem"), &key), ERR_FORMAT, "is not a file");
    assert_says(ecdsa_read_public(at("pipe.pem"), &key), ERR_FORMAT, "is not a file");
}

/* No message may carry a key's contents, here looked for by the first line of its base64. */
static void a_message_never_holds_a_private_key(void **state)
{
    (void)state;
    EcdsaKey *key = NULL;
    size_t length;
    char *pem = read_text(at("a.pem"), &length);
    char line[17];
    (void)snprintf(line, sizeof line, "%s", pem + strlen("-----BEGIN PRIVATE KEY-----\n"));
    assert_says(ecdsa_read_public(at("a.pem"), &key), ERR_FORMAT, "holds a private key");
    assert_null(strstr(status_message(), line));
    free(pem);
}

static void the_fingerprint_is_the_sha256_of_the_public_pem(void **state)
{
    (void)state;
    Digest digest;
    char hex[DIGEST_HEX];
    EcdsaKey *key = private_key("a.pem");
    TrustedKeys keys = trust("ba");
    assert_int_equal(digest_file(at("a.pub"), &digest, NULL), OK);
    digest_hex(&digest, hex);
    assert_string_equal(ecdsa_fingerprint(key), hex);
    assert_ptr_equal(trusted_keys_find(&keys, hex), keys.items[1]);
    trusted_keys_destroy(&keys);
    ecdsa_destroy(key);
}

/* --- folders --- */

static void what_is_signed_verifies_on_each_curve(void **state)
{
    (void)state;
    static const char *const rows[][2] = {
        { "a.pem", "a" }, { "a.pem", "bca" }, { "c.pem", "bc" }, { "d.pem", "d" }
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        make_signed("m", rows[i][0]);
        assert_int_equal(verify("m", rows[i][1]), OK);
    }
}

static void another_key_is_refused(void **state)
{
    (void)state;
    make_signed("m", "a.pem");
    assert_says(verify("m", "b"), ERR_FORMAT, "none of the 1 trusted");
    assert_says(verify("m", "bcd"), ERR_FORMAT, "none of the 3 trusted");
    assert_int_equal(unlink(at("m/model.sig")), 0);
    assert_says(verify("m", "a"), ERR_FORMAT, "m/model.sig: is missing");
}

static void change_file(void)
{
    write_text(at("m/transformer/b.safetensors"), "transformer/b.safetensorS");
}

static void empty_file(void)
{
    write_text(at("m/config.json"), "");
}

static void remove_file(void)
{
    assert_int_equal(unlink(at("m/transformer/a.safetensors")), 0);
}

static void rename_file(void)
{
    assert_int_equal(rename(at("m/transformer_ema/x"), at("m/transformer_ema/y")), 0);
}

static void swap_files(void)
{
    assert_int_equal(rename(at("m/transformer/a.safetensors"), at("m/t")), 0);
    assert_int_equal(rename(at("m/transformer/b.safetensors"), at("m/transformer/a.safetensors")),
                     0);
    assert_int_equal(rename(at("m/t"), at("m/transformer/b.safetensors")), 0);
}

static void add_file(void)
{
    write_text(at("m/transformer/c.safetensors"), "");
}

static void add_signature_below(void)
{
    write_text(at("m/transformer/model.sig"), "");
}

/* ".github" is left out of every signature; what only begins like it is not. */
static void add_hidden_file(void)
{
    write_text(at("m/.github2"), "");
}

static void change_manifest(void)
{
    Manifest manifest;
    change_file();
    assert_int_equal(manifest_make(at("m"), NULL, &manifest), OK);
    assert_int_equal(manifest_write(at("m"), &manifest), OK);
    manifest_destroy(&manifest);
    assert_int_equal(manifest_verify(at("m"), NULL), OK);
}

/* The same bytes, elsewhere. */
static void link_file(void)
{
    assert_int_equal(rename(at("m/config.json"), at("elsewhere")), 0);
    assert_int_equal(symlink(at("elsewhere"), at("m/config.json")), 0);
}

static void link_folder(void)
{
    assert_int_equal(rename(at("m/transformer_ema"), at("folder")), 0);
    assert_int_equal(symlink(at("folder"), at("m/transformer_ema")), 0);
}

static void link_signature(void)
{
    assert_int_equal(rename(at("m/model.sig"), at("signature")), 0);
    assert_int_equal(symlink(at("signature"), at("m/model.sig")), 0);
}

static void pipe_for_file(void)
{
    remove_file();
    assert_int_equal(mkfifo(at("m/transformer/a.safetensors"), 0600), 0);
}

static void cut_signature(void)
{
    assert_int_equal(truncate(at("m/model.sig"), 700), 0);
}

static void empty_signature(void)
{
    write_text(at("m/model.sig"), "");
}

static void every_change_of_a_folder_is_refused(void **state)
{
    (void)state;
    static const struct {
        void (*change)(void);
        const char *says;
    } rows[] = {
        { change_file, "m/transformer/b.safetensors: was changed" },
        { empty_file, "m/config.json: was changed" },
        { remove_file, "m/transformer/a.safetensors: is signed and missing" },
        { rename_file, "m/transformer_ema/x: is signed and missing" },
        { swap_files, "m/transformer/a.safetensors: was changed" },
        { add_file, "m/transformer/c.safetensors: is not signed" },
        { add_signature_below, "m/transformer/model.sig: is not signed" },
        { add_hidden_file, "m/.github2: is not signed" },
        { change_manifest, "m/manifest.json: was changed" },
        { link_file, "m/config.json: is neither a file nor a folder" },
        { link_folder, "m/transformer_ema: is neither a file nor a folder" },
        { link_signature, "m/model.sig: is neither a file nor a folder" },
        { pipe_for_file, "a.safetensors: is neither a file nor a folder" },
        { cut_signature, "m/model.sig: line 1" },
        { empty_signature, "m/model.sig: line 1" },
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        make_signed("m", "a.pem");
        rows[i].change();
        assert_says(verify("m", "a"), ERR_FORMAT, rows[i].says);
        assert_null(strchr(status_message(), '\n'));
        (void)file_remove_tree(at("folder"));
    }
}

static void no_bit_of_a_signature_can_change(void **state)
{
    (void)state;
    size_t length;
    Signature signature = { 0 };
    TrustedKeys keys = trust("ab");
    make_signed("m", "a.pem");
    char *text = read_text(at("m/model.sig"), &length);
    for (size_t i = 0; i < 8 * length; i++) {
        text[i / 8] = (char)(text[i / 8] ^ 1 << i % 8);
        if (signature_parse(text, length, "t", &keys, &signature) != ERR_FORMAT)
            fail_msg("bit %zu of byte %zu: %.40s", i % 8, i / 8, text + i / 8);
        text[i / 8] = (char)(text[i / 8] ^ 1 << i % 8);
    }
    assert_int_equal(signature_parse(text, length, "t", &keys, &signature), OK);
    assert_int_equal(signature.statement.count, FILES + 1);
    assert_ptr_equal(signature.signer, keys.items[0]);
    signature_destroy(&signature);
    trusted_keys_destroy(&keys);
    free(text);
}

static void ranks_together_read_every_file_once(void **state)
{
    (void)state;
    TrustedKeys keys = trust("a");
    enum { RANKS = 3 };
    for (int f = 0; f < FILES; f++) {
        char path[FILE_PATH_BYTES];
        int found = 0;
        make_signed("m", "a.pem");
        assert_int_equal(file_join(path, at("m"), files[f]), OK);
        write_text(path, "changed");
        for (int r = 0; r < RANKS; r++)
            found += signature_verify_share(at("m"), &keys, r, RANKS) != OK;
        assert_int_equal(found, 1);
    }
    trusted_keys_destroy(&keys);
}

/* In a process of its own: a stop that was asked for is never taken back. */
static void a_signal_ends_it_between_files(void **state)
{
    (void)state;
    int status = 0;
    make_signed("m", "a.pem");
    const pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        stop_install();
        (void)kill(getpid(), SIGTERM);
        while (!stop_requested()) (void)usleep(1000);
        _exit(verify("m", "a"));
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), ERR_STOPPED);
}

static void digests_that_are_known_are_not_read_again(void **state)
{
    (void)state;
    Manifest known;
    Signature signature;
    TrustedKeys keys = trust("a");
    make_signed("m", "a.pem");
    assert_int_equal(manifest_read(at("m"), &known), OK);
    assert_int_equal(signature_read(at("m"), &keys, &signature), OK);
    remove_file(); /* nobody looks */
    for (int64_t i = 0; i < signature.statement.count; i++)
        assert_int_equal(signature_check_file(at("m"), &signature, &known, i), OK);
    known.files[1].digest.bytes[0] ^= 1;
    Status s = OK;
    for (int64_t i = 0; i < signature.statement.count && s == OK; i++)
        s = signature_check_file(at("m"), &signature, &known, i);
    assert_says(s, ERR_FORMAT, "m/transformer/a.safetensors: was changed");
    signature_destroy(&signature);
    manifest_destroy(&known);
    trusted_keys_destroy(&keys);
}

static void a_manifest_neither_lists_nor_misses_the_signature(void **state)
{
    (void)state;
    Manifest manifest;
    make_signed("m", "a.pem");
    assert_int_equal(manifest_verify(at("m"), NULL), OK);
    assert_int_equal(manifest_make(at("m"), NULL, &manifest), OK);
    assert_int_equal(manifest.count, FILES);
    assert_null(manifest_find(&manifest, "model.sig"));
    manifest_destroy(&manifest);
    assert_int_equal(unlink(at("m/model.sig")), 0);
    assert_int_equal(manifest_verify(at("m"), NULL), OK);
}

/* --- statements that a trusted key has signed --- */

/* `from` replaced by `to`, which must be there. The caller frees it. */
static char *replaced(const char *text, const char *from, const char *to)
{
    const char *place = strstr(text, from);
    char *out = NULL;
    if (!place) fail_msg("\"%s\" is not in %s", from, text);
    assert_true(asprintf(&out, "%.*s%s%s", (int)(place - text), text, to, place + strlen(from)) >
                0);
    return out;
}

static char *a_statement(void)
{
    char one[] = "a/one", two[] = "b/two", *text;
    StatementFile list[] = { { one, { { 1 } } }, { two, { { 2 } } } };
    size_t length;
    assert_int_equal(statement_write("m", list, 2, &text, &length), OK);
    return text;
}

/* Sealed with key "a" and read again by who trusts it. */
static Status parse_sealed(const char *statement)
{
    char *bundle;
    size_t length;
    Signature signature = { 0 };
    EcdsaKey *key = private_key("a.pem");
    TrustedKeys keys = trust("a");
    assert_int_equal(dsse_seal(key, statement, strlen(statement), &bundle, &length), OK);
    const Status s = signature_parse(bundle, length, "t", &keys, &signature);
    signature_destroy(&signature);
    free(bundle);
    trusted_keys_destroy(&keys);
    ecdsa_destroy(key);
    return s;
}

static void a_statement_with_tricks_is_refused_whoever_signed_it(void **state)
{
    (void)state;
    static const struct {
        const char *from, *to, *says;
    } rows[] = {
        { "a/one", "../one", "which is no path below" },
        { "a/one", "a/../../one", "which is no path below" },
        { "a/one", "/one", "which is no path below" },
        { "a/one", "a//one", "which is no path below" },
        { "a/one", "./one", "which is no path below" },
        { "a/one", "a/.", "which is no path below" },
        { "a/one", "a/one/", "which is no path below" },
        { "a/one", ".", "which is no path below" },
        { "a/one", "", "which is no path below" },
        { "a/one", "a\\u0000", "t: line 1" },
        { "a/one", "b/two", "lists b/two twice" },
        { "a/one", "b\\u002ftwo", "lists b/two twice" },
        { "a/one", "model.sig", "which no signature is over" },
        { "a/one", ".git/config", "which no signature is over" },
        { "\"files\"", "\"shards\"", "\"method\" is \"shards\"" },
        { "\"hash_type\":\"sha256\"", "\"hash_type\":\"blake3\"", "\"hash_type\" is \"blake3\"" },
        { "\"algorithm\":\"sha256\"", "\"algorithm\":\"md5\"", "\"algorithm\" is \"md5\"" },
        { "\"allow_symlinks\":false", "\"allow_symlinks\":true", "symbolic links followed" },
        { "\"allow_symlinks\":false", "\"allow_symlinks\":0", "expected true or false" },
        { "\"allow_symlinks\":false", "\"allow_symlinks\":false,\"shard_size\":9",
          "\"shard_size\"" },
        { "Statement/v1", "Statement/v0.1", "\"_type\"" },
        { "model_signing/signature/v1.0", "model_signing/Digests/v0.1", "\"predicateType\"" },
        { "\"digest\":{\"sha256\":\"", "\"digest\":{\"sha256\":\"0", "expected a SHA-256" },
        { "0200", "0300", "its subject's digest" },
        { "0200", "02G0", "expected a SHA-256" },
        { "0200", "", "expected a SHA-256" },
        { "\".git\",", "\"../x\",", "which is no path below" },
        { "\".git\",", "7,", "something that is no text" },
        { "\"name\":\"m\"", "\"name\":\"\"", "its subject has no name" },
        { "\"subject\":[", "\"subject\":[{},", "has 2 subjects" },
        { "\"resources\":[", "\"resources\":[7,", "is not a JSON object" },
        { "\"resources\":[", "\"resources\":[],\"other\":[", "lists 0 files" },
        { "\"resources\":[", "\"resources\":{},\"resources\":[", "t: line 1" },
        { "{", "{{", "t: line 1" },
    };
    char *statement = a_statement();
    assert_int_equal(parse_sealed(statement), OK);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char *text = replaced(statement, rows[i].from, rows[i].to);
        assert_says(parse_sealed(text), ERR_FORMAT, rows[i].says);
        free(text);
    }
    free(statement);
}

static void members_that_others_may_add_are_passed_over(void **state)
{
    (void)state;
    char *statement = a_statement();
    char *text =
        replaced(statement, "\"name\":\"a/one\"", "\"annotations\":{\"x\":[1]},\"name\":\"a/one\"");
    assert_int_equal(parse_sealed(text), OK);
    free(text);
    free(statement);
}

/* The bundle of a good statement, with its text changed after signing. */
static void a_bundle_of_another_form_is_refused(void **state)
{
    (void)state;
    static const struct {
        const char *from, *to, *says;
    } rows[] = {
        { "bundle.v0.3+json", "bundle.v0.4+json", "\"mediaType\"" },
        { "application/vnd.in-toto+json", "text/plain", "\"payloadType\" is \"text/plain\"" },
        { "\"signatures\":[", "\"signatures\":[{\"sig\":\"\"},", "has 2 signatures" },
        { "\"signatures\":[", "\"signatures\":[],\"other\":[", "\"other\" is no part" },
        { "\"dsseEnvelope\"", "\"messageSignature\"", "\"messageSignature\" is no part" },
        { "\"payload\":\"", "\"payload\":\"\",\"payload\":\"", "line 1" },
        { "\"payload\":\"", "\"payload\":\"=", "is not base64" },
        { "\"payload\":\"", "\"payload\":\" ", "is not base64" },
        { "\"sig\":\"", "\"sig\":\"\\n", "is not base64" },
        { "\"sig\":\"", "\"sig\":\"AAAA", "it was changed" },
        { "\"publicKey\"", "\"certificate\"", "is not signed with a key" },
        { "\"hint\":\"", "\"hint\":\"x", "expected a key's SHA-256" },
        { "\"keyid\":\"\"", "\"keyid\":7", "\"keyid\" is 7" },
        { "}}", "}}x", "line 1" },
    };
    size_t length;
    TrustedKeys keys = trust("a");
    make_signed("m", "a.pem");
    char *bundle = read_text(at("m/model.sig"), &length);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        Signature signature = { 0 };
        char *text = replaced(bundle, rows[i].from, rows[i].to);
        assert_says(signature_parse(text, strlen(text), "t", &keys, &signature), ERR_FORMAT,
                    rows[i].says);
        free(text);
    }
    free(bundle);
    trusted_keys_destroy(&keys);
}

/* By a trusted key, but over something that was never meant as a model's signature. */
static void a_signature_over_other_bytes_does_not_count(void **state)
{
    (void)state;
    EcdsaKey *key = private_key("a.pem");
    TrustedKeys keys = trust("a");
    char *statement = a_statement();
    /* the bare statement, another type of payload, a length that lies */
    static const char *const heads[] = { "", "DSSEv1 10 text/plain 9 ",
                                         "DSSEv1 28 application/vnd.in-toto+json 9 " };
    for (size_t i = 0; i < sizeof heads / sizeof heads[0]; i++) {
        Dsse dsse = { .payload = statement, .payload_length = strlen(statement) };
        const EcdsaKey *signer;
        uint8_t bytes[ECDSA_SIGNATURE_BYTES];
        char *signed_text;
        assert_true(asprintf(&signed_text, "%s%s", heads[i], statement) > 0);
        assert_int_equal(
            ecdsa_sign(key, signed_text, strlen(signed_text), bytes, &dsse.signature_length), OK);
        dsse.signature = bytes;
        assert_says(dsse_check(&dsse, "t", &keys, &signer), ERR_FORMAT, "none of the 1 trusted");
        free(signed_text);
    }
    free(statement);
    trusted_keys_destroy(&keys);
    ecdsa_destroy(key);
}

/* --- what others have signed --- */

static void check_fixture(const char *file, Status names, int64_t left_out)
{
    const char *key = FIXTURES "/public_key.pem", *folder = FIXTURES "/folder";
    TrustedKeys keys;
    Signature signature = { 0 };
    int64_t count = -1;
    size_t length;
    char *text = read_text(file, &length);
    assert_int_equal(trusted_keys_read(&key, 1, &keys), OK);
    assert_int_equal(signature_parse(text, length, file, &keys, &signature), OK);
    free(text);
    assert_int_equal(signature.statement.count, 2);
    for (int64_t i = 0; i < 2; i++)
        assert_int_equal(signature_check_file(folder, &signature, NULL, i), OK);
    assert_int_equal(signature_check_names(folder, &signature, &count), names);
    if (names == OK) assert_int_equal(count, left_out);
    assert_says(signature_check_names(folder, &signature, NULL), ERR_FORMAT,
                "folder/ignore-me: is not signed");
    signature_destroy(&signature);
    trusted_keys_destroy(&keys);
}

static void signatures_of_the_reference_verify(void **state)
{
    (void)state;
    /* the newer one says itself that ignore-me was left out */
    check_fixture(FIXTURES "/v1.1.0.sig", OK, 1);
    check_fixture(FIXTURES "/v1.0.1.sig", ERR_FORMAT, 0);
}

static void vectors_of_the_specification_are_told_apart(void **state)
{
    (void)state;
    static const struct {
        const char *file, *says; /* "": good */
    } rows[] = {
        { "valid_key", "" },
        /* valid, and of methods that this program does not read */
        { "valid_certificate", "is not signed with a key" },
        { "valid_sigstore", "is not signed with a key" },
        { "invalid_empty", "line 1" },
        { "invalid_missing-envelope", "\"dsseEnvelope\" is missing" },
        { "invalid_missing-tlog-entries", "is not signed with a key" },
        { "invalid_missing-verification-material", "\"verificationMaterial\" is missing" },
        { "invalid-payload_wrong-predicate", "\"predicateType\" is \"https://example.com" },
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char path[FILE_PATH_BYTES];
        size_t length;
        Dsse dsse = { 0 };
        Statement statement = { 0 };
        (void)snprintf(path, sizeof path, FIXTURES "/spec/%s.bundle.json", rows[i].file);
        char *text = read_text(path, &length);
        /* the vectors are of form: their statements were written anew and not signed again */
        Status s = dsse_parse(text, length, "t", &dsse);
        if (s == OK) s = statement_parse(dsse.payload, dsse.payload_length, "t", &statement);
        if (rows[i].says[0])
            assert_says(s, ERR_FORMAT, rows[i].says);
        else
            assert_int_equal(s, OK);
        statement_destroy(&statement);
        dsse_destroy(&dsse);
        free(text);
    }
}

/* The last test: the process stays asked. */
static void a_signal_ends_the_check_between_two_files(void **state)
{
    (void)state;
    make_signed("m", "a.pem");
    stop_install();
    assert_int_equal(verify("m", "a"), OK);
    assert_int_equal(kill(getpid(), SIGUSR1), 0);
    while (!stop_requested()) (void)usleep(1000);
    assert_says(verify("m", "a"), ERR_STOPPED, "stopped by a signal while verifying a signature");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(base64_is_that_of_rfc_4648),
        cmocka_unit_test(base64_has_one_text_for_each_sequence_of_bytes),
        cmocka_unit_test(a_key_that_cannot_sign_is_refused_with_the_remedy),
        cmocka_unit_test(a_private_key_must_be_its_owners_alone),
        cmocka_unit_test(a_pipe_in_place_of_a_key_does_not_hold_the_start),
        cmocka_unit_test(a_message_never_holds_a_private_key),
        cmocka_unit_test(the_fingerprint_is_the_sha256_of_the_public_pem),
        cmocka_unit_test(what_is_signed_verifies_on_each_curve),
        cmocka_unit_test(another_key_is_refused),
        cmocka_unit_test(every_change_of_a_folder_is_refused),
        cmocka_unit_test(no_bit_of_a_signature_can_change),
        cmocka_unit_test(ranks_together_read_every_file_once),
        cmocka_unit_test(a_signal_ends_it_between_files),
        cmocka_unit_test(digests_that_are_known_are_not_read_again),
        cmocka_unit_test(a_manifest_neither_lists_nor_misses_the_signature),
        cmocka_unit_test(a_statement_with_tricks_is_refused_whoever_signed_it),
        cmocka_unit_test(members_that_others_may_add_are_passed_over),
        cmocka_unit_test(a_bundle_of_another_form_is_refused),
        cmocka_unit_test(a_signature_over_other_bytes_does_not_count),
        cmocka_unit_test(signatures_of_the_reference_verify),
        cmocka_unit_test(vectors_of_the_specification_are_told_apart),
        cmocka_unit_test(a_signal_ends_the_check_between_two_files),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
