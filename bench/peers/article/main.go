// The gateway of the tutorials: one token bucket behind a mutex in front of httputil.ReverseProxy with the transport
// that Go gives by default, which keeps two idle connections to an upstream. Arguments: LISTEN UPSTREAM [POOL [RATE BURST]];
// a POOL above 0 raises the idle connections kept. The bucket is one for all clients, as it is in the tutorials.
package main

import (
	"log"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"strconv"
	"sync"
	"time"
)

// TokenBucket refills with time and is asked once a request.
type TokenBucket struct {
	mu         sync.Mutex
	tokens     float64
	maxTokens  float64
	perSecond  float64
	lastRefill time.Time
}

// NewTokenBucket is full.
func NewTokenBucket(maxTokens, perSecond float64) *TokenBucket {
	return &TokenBucket{tokens: maxTokens, maxTokens: maxTokens, perSecond: perSecond, lastRefill: time.Now()}
}

// Allow takes a token if there is one.
func (b *TokenBucket) Allow() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := time.Now()
	b.tokens += now.Sub(b.lastRefill).Seconds() * b.perSecond
	if b.tokens > b.maxTokens {
		b.tokens = b.maxTokens
	}
	b.lastRefill = now
	if b.tokens < 1 {
		return false
	}
	b.tokens--
	return true
}

func number(at int, otherwise float64) float64 {
	if len(os.Args) <= at {
		return otherwise
	}
	value, err := strconv.ParseFloat(os.Args[at], 64)
	if err != nil {
		log.Fatal(err)
	}
	return value
}

func main() {
	if len(os.Args) < 3 {
		log.Fatal("LISTEN UPSTREAM [POOL [RATE BURST]]")
	}
	target, err := url.Parse("http://" + os.Args[2])
	if err != nil {
		log.Fatal(err)
	}
	proxy := httputil.NewSingleHostReverseProxy(target)
	if pool := int(number(3, 0)); pool > 0 {
		transport := http.DefaultTransport.(*http.Transport).Clone()
		transport.MaxIdleConns = 0
		transport.MaxIdleConnsPerHost = pool
		proxy.Transport = transport
	}
	bucket := NewTokenBucket(number(5, 1e9), number(4, 1e9))
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !bucket.Allow() {
			http.Error(w, "rate limit exceeded", http.StatusTooManyRequests)
			return
		}
		proxy.ServeHTTP(w, r)
	})
	log.Fatal(http.ListenAndServe(os.Args[1], handler))
}
