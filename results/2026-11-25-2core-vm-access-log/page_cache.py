import os,time,sys
def run(size,total=400<<20,flags=0):
    fd=os.open('/tmp/wtest',os.O_WRONLY|os.O_CREAT|os.O_TRUNC|os.O_APPEND|flags,0o644)
    b=b'x'*size
    c0=time.process_time()
    for _ in range(total//size): os.write(fd,b)
    c=time.process_time()-c0
    os.close(fd); os.unlink('/tmp/wtest')
    return c/total*1e9
for r in range(3):
    print([ (s>>10, round(run(s),3)) for s in (4096,16384,32768,65536,131072,262144,1<<20)])
