// Program pack makes an image archive of one program, which is there as `server` and as `client`:
// pack PROGRAM IMAGE ARCHIVE.
package main

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"log"
	"os"
	"runtime"
)

const place = "usr/local/bin/"

func main() {
	if len(os.Args) != 4 {
		log.Fatal("pack PROGRAM IMAGE ARCHIVE")
	}
	program, err := os.ReadFile(os.Args[1])
	check(err)
	layer := files(
		entry{tar.Header{Name: place + "server", Mode: 0o755}, program},
		entry{tar.Header{Name: place + "client", Typeflag: tar.TypeSymlink, Linkname: "server", Mode: 0o777}, nil},
	)
	config := encode(map[string]any{
		"os":           "linux",
		"architecture": runtime.GOARCH,
		"config":       map[string]any{"Entrypoint": []string{"/" + place + "server"}, "Env": []string{"PATH=/usr/local/bin:/usr/bin:/bin"}},
		"rootfs":       map[string]any{"type": "layers", "diff_ids": []string{"sha256:" + digest(layer)}},
	})
	name := digest(config) + ".json"
	manifest := encode([]map[string]any{{"Config": name, "RepoTags": []string{os.Args[2]}, "Layers": []string{"layer.tar"}}})
	archive := files(
		entry{tar.Header{Name: name, Mode: 0o644}, config},
		entry{tar.Header{Name: "layer.tar", Mode: 0o644}, layer},
		entry{tar.Header{Name: "manifest.json", Mode: 0o644}, manifest},
	)
	check(os.WriteFile(os.Args[3], archive, 0o644))
}

type entry struct {
	header  tar.Header
	content []byte
}

func files(entries ...entry) []byte {
	var out bytes.Buffer
	writer := tar.NewWriter(&out)
	for _, entry := range entries {
		entry.header.Size = int64(len(entry.content))
		check(writer.WriteHeader(&entry.header))
		_, err := writer.Write(entry.content)
		check(err)
	}
	check(writer.Close())
	return out.Bytes()
}

func digest(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

func encode(value any) []byte {
	text, err := json.Marshal(value)
	check(err)
	return text
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
