//! On ringlog's Driver and shard.

use crate::work::{self, ANSWER, Frames, Places, Work};
use bytes::Bytes;
use ringlog_engine::io::host::{Host, IoChoice};
use ringlog_engine::io::{DirId, FileMode, Socket, Space, SyncItem, buf};
use ringlog_engine::shard::{Executor, Shard, ShardId};

pub(crate) fn serve(work: Work) {
    let host = Host::open(std::slice::from_ref(&work.dir), IoChoice::Uring).expect("a directory on a disk");
    let mut executor = Executor::new(ShardId(0), host.driver().expect("io_uring"));
    let shard = executor.shard().clone();
    executor.block_on(async move {
        let any = "127.0.0.1:0".parse().expect("an address");
        let (listener, address) = shard.io().listen(any).expect("a free port");
        println!("{address}");
        let mut accepted = shard.io().accept(listener);
        for connection in 0.. {
            let (socket, _) = accepted.next().await.into_accepted().expect("a connection");
            shard.spawn(serve_one(shard.clone(), work.clone(), socket, connection));
        }
    });
}

async fn serve_one(shard: Shard, work: Work, socket: Socket, connection: usize) {
    let io = shard.io();
    let path = work::file(&work.dir, connection);
    let (file, _) = io.open(DirId(0), path, FileMode::Blocks).await.expect("its file");
    let (mut frames, mut places) = (Frames::default(), Places::new());
    loop {
        let bytes = io.recv(socket.clone()).await.unwrap_or_default();
        if bytes.is_empty() {
            return;
        }
        let mut whole = Vec::new();
        frames.came(&bytes, |request| {
            let mut block = buf::aligned(request.len());
            block.extend_from_slice(request);
            whole.push(block.freeze());
        });
        drop(bytes);
        for block in whole {
            io.write(file.clone(), places.next(), block).await.expect("a write");
            if work.sync {
                io.sync(vec![SyncItem { file: file.clone(), space: Space::Written }]).await.expect("a sync");
            }
            let rest = io.send_at_once(&socket, vec![Bytes::from_static(&ANSWER)]);
            if !rest.is_empty() && io.send(socket.clone(), rest).await.is_err() {
                return;
            }
        }
    }
}
