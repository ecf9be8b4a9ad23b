"""Questions about texts: public formats and generated reports -> TFRecord, byte-level BPE, windows."""
