/*
 * peers_cxx.cc - what a C++ programmer has: boost::unordered_flat_map alone,
 * the same as the index of an LRU cache in one array, and absl::flat_hash_map
 * with a std::list.
 *
 * The tables are told their size in advance.  Strings are looked up as views of
 * what the entry owns.
 *
 * SPDX-License-Identifier: MIT
 */
#include <list>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <absl/container/flat_hash_map.h>
#include <boost/functional/hash.hpp>
#include <boost/unordered/unordered_flat_map.hpp>

#include "bench.h"

namespace
{

struct integers {
    using item = u64_item;
    using value = u64_value;
    using view = uint64_t;      /* what the index has */
    using inlined = uint64_t;   /* what an entry has, in place */
    using allocated = uint64_t; /* or wherever it likes */
    using hash = boost::hash<uint64_t>;

    static view view_of(const item &i)
    {
        return i;
    }
    static void fill(value *v, const item *i)
    {
        u64_fill(v, i);
    }
};

struct inlined_string {
    char bytes[32];
    unsigned char length;

    inlined_string() = default;
    explicit inlined_string(std::string_view s)
        : length(static_cast<unsigned char>(s.size()))
    {
        memcpy(bytes, s.data(), s.size());
    }
    operator std::string_view() const
    {
        return { bytes, length };
    }
};

struct strings {
    using item = text_item;
    using value = text_value;
    using view = std::string_view;
    using inlined = inlined_string;
    using allocated = std::string;
    using hash = std::hash<std::string_view>;

    static view view_of(const item &i)
    {
        return { i.bytes, i.length };
    }
    static void fill(value *v, const item *i)
    {
        text_fill(v, i);
    }
};

/* LRU: nodes with 32-bit links in one array, which a flat map points into. */
template <typename K> class boost_lru
{
    struct node {
        typename K::inlined key;
        typename K::value value;
        uint32_t prev, next;
    };
    std::vector<node> nodes; /* [0] is the head of the ring */
    boost::unordered_flat_map<typename K::view, uint32_t, typename K::hash>
        index;
    uint32_t used = 0;

    void unlink(uint32_t n)
    {
        nodes[nodes[n].prev].next = nodes[n].next;
        nodes[nodes[n].next].prev = nodes[n].prev;
    }
    void push_front(uint32_t n)
    {
        nodes[n].prev = 0;
        nodes[n].next = nodes[0].next;
        nodes[nodes[0].next].prev = n;
        nodes[0].next = n;
    }
    void use(uint32_t n)
    {
        if (nodes[0].next == n)
            return;
        unlink(n);
        push_front(n);
    }
    uint32_t make_room()
    {
        if (used + 1 < nodes.size())
            return ++used;
        uint32_t n = nodes[0].prev;
        unlink(n);
        index.erase(typename K::view(nodes[n].key));
        return n;
    }

  public:
    explicit boost_lru(size_t entries) : nodes(entries + 1)
    {
        nodes[0].prev = nodes[0].next = 0;
        index.reserve(entries + 1);
    }
    typename K::value *find(const typename K::item *item)
    {
        auto it = index.find(K::view_of(*item));
        if (it == index.end())
            return nullptr;
        use(it->second);
        return &nodes[it->second].value;
    }
    typename K::value *add(const typename K::item *item, bool *inserted)
    {
        uint32_t n;
        if constexpr (std::is_same_v<typename K::view, typename K::inlined>) {
            /* One probe: an erase moves no other element. */
            auto [it, fresh] = index.try_emplace(K::view_of(*item), 0);
            *inserted = fresh;
            if (!fresh) {
                use(it->second);
                return &nodes[it->second].value;
            }
            n = it->second = make_room();
            nodes[n].key = *item;
        } else {
            /* The index's key is a view of the node's, which comes first. */
            auto *value = find(item);
            *inserted = value == nullptr;
            if (value != nullptr)
                return value;
            n = make_room();
            nodes[n].key = typename K::inlined(K::view_of(*item));
            index.emplace(typename K::view(nodes[n].key), n);
        }
        K::fill(&nodes[n].value, item);
        push_front(n);
        return &nodes[n].value;
    }
};

/* LRU: a list, and a flat map of its iterators. */
template <typename K> class absl_lru
{
    using entry = std::pair<typename K::allocated, typename K::value>;
    std::list<entry> order; /* the least recently used is last */
    absl::flat_hash_map<typename K::view, typename std::list<entry>::iterator>
        index;
    size_t capacity;

  public:
    explicit absl_lru(size_t entries) : capacity(entries)
    {
        index.reserve(entries + 1);
    }
    typename K::value *find(const typename K::item *item)
    {
        auto it = index.find(K::view_of(*item));
        if (it == index.end())
            return nullptr;
        order.splice(order.begin(), order, it->second);
        return &it->second->second;
    }
    typename K::value *add(const typename K::item *item, bool *inserted)
    {
        auto *value = find(item);
        *inserted = value == nullptr;
        if (value != nullptr)
            return value;
        if (order.size() >= capacity) {
            index.erase(typename K::view(order.back().first));
            order.pop_back();
        }
        order.emplace_front(K::view_of(*item), typename K::value());
        K::fill(&order.front().second, item);
        index.emplace(typename K::view(order.front().first), order.begin());
        return &order.front().second;
    }
};

/* A table without order: what a look-up alone costs. */
class boost_raw
{
    boost::unordered_flat_map<uint64_t, uint64_t, integers::hash> table;

  public:
    explicit boost_raw(size_t entries)
    {
        table.reserve(entries);
    }
    uint64_t *find(const uint64_t *key)
    {
        auto it = table.find(*key);
        return it == table.end() ? nullptr : &it->second;
    }
    uint64_t *add(const uint64_t *key, bool *inserted)
    {
        auto [it, fresh] = table.try_emplace(*key);
        *inserted = fresh;
        if (fresh)
            u64_fill(&it->second, key);
        return &it->second;
    }
};

} /* namespace */

/* What loops.h wants, of a class. */
#define BOXED(name, item, ...)                                                 \
    struct name##_box : __VA_ARGS__ {                                          \
        using base = __VA_ARGS__;                                              \
        using base::base;                                                      \
    };                                                                         \
    static void *name##_box_open(size_t entries)                               \
    {                                                                          \
        return new name##_box(entries);                                        \
    }                                                                          \
    static const char *name##_box_close(void *cache)                           \
    {                                                                          \
        delete static_cast<name##_box *>(cache);                               \
        return nullptr;                                                        \
    }                                                                          \
    static inline const item##_value *name##_box_find(                         \
        name##_box *box, const item##_item *at, item##_value *)                \
    {                                                                          \
        return box->find(at);                                                  \
    }                                                                          \
    static inline const item##_value *name##_box_add(                          \
        name##_box *box, const item##_item *at, item##_value *,                \
        bool *inserted)                                                        \
    {                                                                          \
        return box->add(at, inserted);                                         \
    }                                                                          \
    static inline bool name##_box_store(name##_box *box,                       \
                                        const item##_item *at)                 \
    {                                                                          \
        bool inserted;                                                         \
        item##_value *value = box->add(at, &inserted);                         \
        if (!inserted)                                                         \
            item##_fill(value, at);                                            \
        return true;                                                           \
    }                                                                          \
    static_assert(true, "swallows the semicolon")

BOXED(boost_raw, u64, boost_raw);
#define KIND boost_raw
#define ITEM u64
#include "loops.h"

BOXED(boost_lru, u64, boost_lru<integers>);
#define KIND boost_lru
#define ITEM u64
#include "loops.h"

BOXED(absl_lru, u64, absl_lru<integers>);
#define KIND absl_lru
#define ITEM u64
#include "loops.h"

BOXED(boost_text, text, boost_lru<strings>);
#define KIND boost_text
#define ITEM text
#include "loops.h"

BOXED(absl_text, text, absl_lru<strings>);
#define KIND absl_text
#define ITEM text
#include "loops.h"

const struct subject subjects_cxx[] = {
    SUBJECT(boost_lru, "boost", G_HIT | G_EVICT | G_MEMORY,
            "boost::unordered_flat_map and an array of nodes, LRU"),
    SUBJECT(absl_lru, "absl", G_HIT | G_EVICT | G_MEMORY,
            "absl::flat_hash_map and std::list, LRU"),
    SUBJECT(boost_raw, "boost_raw", G_HIT | G_FIXED,
            "boost::unordered_flat_map alone, filled once"),
    SUBJECT(boost_text, "boost", G_TEXT, nullptr),
    SUBJECT(absl_text, "absl", G_TEXT, nullptr),
    { nullptr, nullptr, 0, nullptr, nullptr, nullptr, nullptr },
};
